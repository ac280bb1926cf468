"""The optimizer, and the learning rate as a pure function of the step.

A resumed trial so repeats exactly. A new optimizer or schedule is one function, registered here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer

from hpa_search.config import TrialConfig
from hpa_search.registry import Registry

FUSED_ON = ("cpu", "cuda")
"""Devices with a kernel that updates all weights at once."""

LEAST_GAIN = 1e-4
"""A validation loss improves if it is lower than the best so far by more than this (Keras' min_delta)."""

CYCLE_RISE, CYCLE_START, CYCLE_END = 0.3, 25.0, 1e4
"""One cycle climbs for this share of the steps, from 1/25 of the rate. It ends at 1e-4 of where it began (torch's)."""

Groups = list[dict[str, Any]]

OPTIMIZERS: Registry[Callable[[Groups, TrialConfig, bool], Optimizer]] = Registry("optimizer")


def build_optimizer(network: nn.Module, config: TrialConfig) -> Optimizer:
    """Return the optimizer that ``config`` names, over all weights of ``network``.

    It holds frozen weights too, since a later epoch may free them. A weight without a gradient (None, as
    ``zero_grad(set_to_none=True)`` leaves it) does not change, not even by weight decay. Weight decay (L2 added to the
    gradient, except in AdamW) acts only on weights of two or more dimensions. On biases and on the scales of normalisation
    layers it does harm (He et al. 2019, arXiv 1812.01187, section 3.1). Raises ValueError for a name that is not registered.
    """
    weights = list(network.parameters())
    groups: Groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type in FUSED_ON for weight in weights)
    return OPTIMIZERS[config.optimizer](groups, config, fused)


@OPTIMIZERS.register("adam")
def _adam(groups: Groups, config: TrialConfig, fused: bool) -> Optimizer:
    return Adam(groups, lr=config.learning_rate, fused=fused)


@OPTIMIZERS.register("adamw")
def _adamw(groups: Groups, config: TrialConfig, fused: bool) -> Optimizer:
    return AdamW(groups, lr=config.learning_rate, fused=fused)


@OPTIMIZERS.register("sgd")
def _sgd(groups: Groups, config: TrialConfig, fused: bool) -> Optimizer:
    """Plain gradient descent; with momentum, Nesterov's.

    Never fused: the fused kernel fails if freed weights have no momentum yet and others have.
    """
    momentum = config.momentum
    assert momentum is not None
    return SGD(groups, lr=config.learning_rate, momentum=momentum, nesterov=momentum > 0)


@OPTIMIZERS.register("adamax")
def _adamax(groups: Groups, config: TrialConfig, fused: bool) -> Optimizer:
    """Adam with the largest gradient in place of the mean square. It has no fused kernel."""
    return Adamax(groups, lr=config.learning_rate)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group of ``optimizer`` to ``rate``."""
    group: dict[str, Any]
    for group in optimizer.param_groups:
        group["lr"] = rate


@dataclass(frozen=True)
class Clock:
    """A trial's position in its schedule: before update ``step`` of ``total``, counted from 0.

    ``validation_losses`` are those of the ``completed`` epochs, as far as they are given.
    """

    step: int
    total: int
    steps_per_epoch: int
    completed: int
    validation_losses: Sequence[float]


Schedule = Callable[[TrialConfig, Clock], float]
"""Returns the factor of the configured learning rate, within 0..1."""

SCHEDULES: Registry[Schedule] = Registry("schedule")


def learning_rate(
    config: TrialConfig, step: int, *, steps_per_epoch: int, epochs: int, validation_losses: Sequence[float] = ()
) -> float:
    """Return the learning rate of update number ``step``, counted from 0.

    The rate climbs linearly through ``warmup_epochs``. Then the schedule starts, and ends with ``epochs``, those of the top
    rung. So a promoted trial continues where it paused. Beyond the end the rate stays. one_cycle has a warm-up of its own and
    ignores ``warmup_epochs``.

    ``validation_losses`` are those of epochs 1, 2, ...; only epochs completed before ``step`` count. Only plateau needs them.
    It raises ValueError if one is missing.
    """
    total = epochs * steps_per_epoch
    step = min(step, total - 1)
    completed = step // steps_per_epoch
    clock = Clock(step, total, steps_per_epoch, completed, validation_losses[:completed])
    return config.learning_rate * SCHEDULES[config.schedule](config, clock)


def _after_warmup(schedule: Schedule) -> Schedule:
    """Start ``schedule`` when the warm-up is over."""

    @wraps(schedule)
    def warmed(config: TrialConfig, clock: Clock) -> float:
        warmup = min(clock.total, round(config.warmup_epochs * clock.steps_per_epoch))
        if clock.step < warmup:
            return (clock.step + 1) / (warmup + 1)
        return schedule(config, replace(clock, step=clock.step - warmup, total=clock.total - warmup))

    return warmed


@SCHEDULES.register("constant")
@_after_warmup
def _constant(config: TrialConfig, clock: Clock) -> float:
    return 1.0


@SCHEDULES.register("step")
@_after_warmup
def _step(config: TrialConfig, clock: Clock) -> float:
    """Multiply by `schedule_factor` every `schedule_epochs` epochs."""
    assert config.schedule_factor is not None and config.schedule_epochs is not None
    return config.schedule_factor ** (clock.step // (config.schedule_epochs * clock.steps_per_epoch))


@SCHEDULES.register("plateau")
@_after_warmup
def _plateau(config: TrialConfig, clock: Clock) -> float:
    """Multiply by `schedule_factor` whenever the validation loss has not improved for `schedule_epochs` epochs.

    This is Keras' ReduceLROnPlateau without a cooldown. Epochs of the warm-up count.
    """
    factor, patience = config.schedule_factor, config.schedule_epochs
    assert factor is not None and patience is not None
    if len(clock.validation_losses) < clock.completed:
        raise ValueError(f"plateau needs {clock.completed} validation losses, given {len(clock.validation_losses)}")
    best, waited, drops = math.inf, 0, 0
    for loss in clock.validation_losses:
        if loss < best - LEAST_GAIN:
            best, waited = loss, 0
            continue
        waited += 1
        if waited >= patience:
            waited, drops = 0, drops + 1
    return factor**drops


@SCHEDULES.register("cosine")
@_after_warmup
def _cosine(config: TrialConfig, clock: Clock) -> float:
    """Fall by half a cosine from 1 to 0 (Loshchilov and Hutter 2017, SGDR, without restarts)."""
    return _half_cosine(1.0, 0.0, clock.step / clock.total)


@SCHEDULES.register("cosine_restarts")
@_after_warmup
def _cosine_restarts(config: TrialConfig, clock: Clock) -> float:
    """Fall by half a cosine from 1 to 0 every `schedule_epochs` epochs (SGDR with periods of one length)."""
    assert config.schedule_epochs is not None
    period = config.schedule_epochs * clock.steps_per_epoch
    return _half_cosine(1.0, 0.0, clock.step % period / period)


@SCHEDULES.register("one_cycle")
def _one_cycle(config: TrialConfig, clock: Clock) -> float:
    """Rise by half a cosine, then fall by another (Smith and Topin 2017, as torch's OneCycleLR lays it out)."""
    start, last = 1 / CYCLE_START, clock.total - 1
    peak = CYCLE_RISE * clock.total - 1  # within three steps, it lies before the first, as in torch
    if clock.step <= peak:
        return _half_cosine(start, 1.0, clock.step / peak)
    return _half_cosine(1.0, start / CYCLE_END, (clock.step - peak) / (last - peak))


def _half_cosine(first: float, last: float, progress: float) -> float:
    """Return the value at ``progress`` 0..1 of the way from ``first`` to ``last``."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))
