"""The optimizer, and the learning rate as a pure function of the step, so that a resumed trial goes on exactly."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from hpa_search.config import TrialConfig

FUSED_ON = ("cpu", "cuda")
"""Devices with a kernel that updates all weights at once."""


def build_optimizer(network: nn.Module, config: TrialConfig) -> Optimizer:
    """Return the optimizer that ``config`` names over the trainable weights of ``network``.

    Weight decay (in Adam: L2 added to the gradient) touches weights of two or more dimensions alone: on biases and on
    the scales of normalisation layers it does harm (He et al. 2019, arXiv 1812.01187, section 3.1).
    """
    trainable = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trainable if weight.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in trainable if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type in FUSED_ON for weight in trainable)
    return OPTIMIZERS[config.optimizer](groups, lr=config.learning_rate, fused=fused)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adamw": AdamW}


def learning_rate(config: TrialConfig, step: int, *, steps_per_epoch: int, epochs: int) -> float:
    """Return the learning rate of the update number ``step``, counted from 0.

    It climbs in a straight line through ``warmup_epochs``, then follows the schedule to the end of ``epochs``, the
    epochs of the top rung; a trial that is promoted thus goes on where it paused. Beyond the end it stays.
    """
    total = epochs * steps_per_epoch
    warmup = min(total, round(config.warmup_epochs * steps_per_epoch))
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return config.learning_rate * SCHEDULES[config.schedule](progress)


def _constant(progress: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, SGDR, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Callable[[float], float]] = {"constant": _constant, "cosine": _cosine}
"""Name -> factor of the learning rate at a progress of 0 to 1."""


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Make ``rate`` the learning rate of every group of ``optimizer``."""
    group: dict[str, Any]
    for group in optimizer.param_groups:
        group["lr"] = rate
