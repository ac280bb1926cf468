"""Families of problems for `replay.py`: a space, the true quality of a configuration, and what its epochs report.

Each seed draws a problem of its own from a family: another best configuration, other weights, other interactions. The best
quality is 1. A report is the quality times the curve's height at that epoch, and noise.
"""

import csv
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hpa_search.space.dimension import Dimension
from hpa_search.space.parsing import parse_search
from hpa_search.space.search import Search

EPOCHS = 27
FILE = """
name: replay
seed: {seed}
space:
{space}
sampler: {sampler}
budget: {{epochs: {epochs}}}
scheduler: {{min_epochs: 1, max_epochs: 27, eta: 3}}
"""
SMOOTH = """
  learning_rate: {log_range: [1.0e-4, 1.0e-1]}
  weight_decay: {log_range: [1.0e-6, 1.0e-2]}
  dropout: {range: [0.0, 0.5]}
  optimizer: {choice: [adam, adamw, sgd]}
  loss: {choice: [bce, focal, asymmetric]}
  gamma: {range: [0.5, 4.0], when: {loss: focal}}
  gamma_negative: {range: [1.0, 5.0], when: {loss: asymmetric}}
"""
CATEGORICAL = """
  backbone: {choice: [resnet18d, resnet34, resnet50d, densenet121, seresnext50_32x4d, convnext_tiny, resnet18, resnet50]}
  resolution: {choice: [downsize, gap, extra_blocks]}
  small_size: {choice: [64, 128, 224, 299], when: {resolution: downsize}}
  channels: {choice: [rgb, rgby, g, mix_a, mix_b, learned]}
  normalise: {choice: [dataset, image]}
  head: {choice: [plain, hidden, avg_max]}
  loss: {choice: [bce, focal, asymmetric, margin]}
  gamma: {range: [0.5, 4.0], when: {loss: focal}}
  class_weights: {choice: [none, full, ln, 1-f, effective]}
  sampling: {choice: [none, minority, repeat_factor, sqrt]}
  sampling_copies: {integer: [2, 10], when: {sampling: [minority, repeat_factor]}}
  augment: {choice: [none, flips, dihedral, strong]}
  optimizer: {choice: [adam, adamw, sgd, adamax]}
  learning_rate: {log_range: [1.0e-4, 3.0e-2]}
  schedule: {choice: [constant, step, plateau, cosine, cosine_restarts, one_cycle]}
  ema: {choice: [0.0, 0.99, 0.999]}
"""


@dataclass(frozen=True)
class Problem:
    """One problem. ``quality`` maps a configuration to its true score after all epochs, 1 at the best.

    ``height`` maps a configuration and an epoch to the share of its quality that is reported then, without noise.
    """

    space: str
    quality: Callable[[Mapping[str, Any]], float]
    height: Callable[[Mapping[str, Any], int], float]
    noise: float
    seed: int

    def score(self, parameters: Mapping[str, Any], epoch: int) -> float:
        """Return what ``epoch`` reports. A quarter of the noise's variance is the training's, the same in all its epochs."""
        of_training = _normal(self.seed, parameters, 0) * self.noise * 0.5
        of_epoch = _normal(self.seed, parameters, epoch) * self.noise * 0.75**0.5
        return self.quality(parameters) * self.height(parameters, epoch) + of_training + of_epoch

    def seconds(self, parameters: Mapping[str, Any]) -> float:
        """Return how long an epoch takes: most between half and twice a unit."""
        return float(np.exp(0.35 * _normal(self.seed, parameters, -1)))

    def search(self, *, sampler: str, epochs: int) -> Search:
        """Return the search of ``epochs`` epochs in all."""
        return parse_search(FILE.format(seed=self.seed, space=self.space, sampler=sampler, epochs=epochs), "replay")


def _normal(seed: int, parameters: Mapping[str, Any], epoch: int) -> float:
    word = zlib.crc32(repr((seed, epoch, sorted(parameters.items()))).encode())
    return float(np.random.default_rng(word).normal())


@dataclass
class Landscape:
    """The loss of a configuration, which is 0 at one random configuration and grows with the distance from it.

    A few settings weigh much. The best learning rate depends on the optimizer where both vary, and numbers interact in pairs.
    """

    space: Mapping[str, Dimension]
    rng: np.random.Generator
    best: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    tables: dict[str, dict[Any, float]] = field(default_factory=dict)
    shifts: dict[Any, float] = field(default_factory=dict)
    pairs: list[tuple[str, str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, dimension in self.space.items():
            self.weights[name] = float(np.exp(self.rng.uniform(np.log(0.15), np.log(1.5))))
            if dimension.choice is not None:
                steps = np.append(0, np.sort(self.rng.uniform(0.1, 1, len(dimension.choice) - 1)))
                self.tables[name] = dict(zip(dimension.choice, map(float, self.rng.permutation(steps)), strict=True))
            else:
                self.best[name] = float(self.rng.uniform(0.15, 0.85))
        if {"optimizer", "learning_rate"} <= self.space.keys():
            optimizers = self.space["optimizer"].choice or ()
            self.shifts = {optimizer: float(self.rng.uniform(-0.2, 0.2)) for optimizer in optimizers}
        numbers = [name for name in self.best if not self.space[name].when]
        self.pairs = [(a, b, float(self.rng.uniform(-0.9, 0.9))) for a, b in zip(numbers, numbers[1:], strict=False)]

    def away(self, name: str, parameters: Mapping[str, Any]) -> float:
        """Return how far a number is from its best value; the whole range is 1."""
        there = self.best[name] + (self.shifts.get(parameters.get("optimizer"), 0.0) if name == "learning_rate" else 0.0)
        return unit(self.space[name], parameters[name]) - there

    def loss(self, parameters: Mapping[str, Any]) -> float:
        """Return the loss of a configuration, 0 or more."""
        total = sum(self.weights[name] * self.tables[name][parameters[name]] for name in self.tables if name in parameters)
        total += sum(4 * self.weights[name] * self.away(name, parameters) ** 2 for name in self.best if name in parameters)
        for first, second, strength in self.pairs:
            weight = 4 * strength * (self.weights[first] * self.weights[second]) ** 0.5 / 2
            total += weight * self.away(first, parameters) * self.away(second, parameters)
        return total


def unit(dimension: Dimension, value: float) -> float:
    """Return where ``value`` lies between the ends of its range, as the range is drawn from: 0 to 1."""
    low, high = dimension.bounds
    if dimension.log_range is not None:
        return float(np.log(value / low) / np.log(high / low))
    return (value - low) / (high - low)


def _landscape(space: str, seed: int, scale: float) -> tuple[Landscape, Callable[[Mapping[str, Any]], float]]:
    """Return a landscape and its quality, by which ``scale`` sets how many configurations are good."""
    search = parse_search(FILE.format(seed=0, space=space, sampler="random", epochs=1), "replay")
    landscape = Landscape(search.space, np.random.default_rng(seed))
    return landscape, lambda parameters: float(np.exp(-scale * landscape.loss(parameters)))


def power(start: float, epoch: int, exponent: float = 0.8) -> float:
    """Return the height of a curve that is ``start`` after the first epoch and 1 after the last."""
    last = EPOCHS**-exponent
    return 1 - (1 - start) * (epoch**-exponent - last) / (1 - last)


def smooth(seed: int) -> Problem:
    """Seven settings, two of them conditional. All curves have one shape."""
    _, quality = _landscape(SMOOTH, seed, 0.6)
    return Problem(SMOOTH, quality, lambda parameters, epoch: power(0.5, epoch), 0.02, seed)


def categorical(seed: int) -> Problem:
    """Sixteen settings, most of them choices, as in `full.yaml`."""
    _, quality = _landscape(CATEGORICAL, seed, 0.35)
    return Problem(CATEGORICAL, quality, lambda parameters, epoch: power(0.5, epoch), 0.02, seed)


def crossing(seed: int) -> Problem:
    """A low learning rate and a good configuration begin low: the first rungs rank them wrong."""
    landscape, quality = _landscape(SMOOTH, seed, 0.6)

    def height(parameters: Mapping[str, Any], epoch: int) -> float:
        rate = unit(landscape.space["learning_rate"], parameters["learning_rate"])
        return power(0.75 - 0.35 * quality(parameters) - 0.25 * (1 - rate), epoch)

    return Problem(SMOOTH, quality, height, 0.02, seed)


def noisy(seed: int) -> Problem:
    """The noise of a report is as large as the differences among configurations."""
    _, quality = _landscape(SMOOTH, seed, 0.6)
    return Problem(SMOOTH, quality, lambda parameters, epoch: power(0.5, epoch), 0.15, seed)


def needle(seed: int) -> Problem:
    """Half of the quality is had only in a small part of the space, to which little points."""
    landscape, quality = _landscape(SMOOTH, seed, 0.3)

    def sharp(parameters: Mapping[str, Any]) -> float:
        return 0.5 * quality(parameters) + 0.5 * float(np.exp(-6 * landscape.loss(parameters)))

    return Problem(SMOOTH, sharp, lambda parameters, epoch: power(0.5, epoch), 0.02, seed)


@cache
def _real_curves() -> list[tuple[list[float], float]]:
    """Return the real validation curves of ten epochs or more: the height at each of EPOCHS epochs, and the noise."""
    path = Path(os.environ["HPA_TEST_DATA"]) / "learning_curves.csv"
    rows = defaultdict[tuple[str, str], list[tuple[int, float]]](list)
    with path.open() as file:
        for row in csv.DictReader(file):
            if row["val_loss"]:
                rows[row["source"], row["run"]].append((int(float(row["epoch"])), float(row["val_loss"])))
    curves = []
    for points in rows.values():
        losses = np.array([loss for _, loss in sorted(points)])
        if len(losses) < 10 or not np.isfinite(losses).all():
            continue
        # A loss says little of a height; its share of the whole fall does. The first epoch is at 0.4.
        fall = (losses[0] - losses) / max(losses[0] - losses.min(), 1e-9)
        shares = 0.4 + 0.6 * np.interp(np.linspace(0, len(fall) - 1, EPOCHS), np.arange(len(fall)), fall)
        level = np.convolve(np.pad(shares, 2, mode="edge"), np.full(5, 0.2), mode="valid")
        curves.append(([float(value) for value in np.clip(level, 0.1, 1)], float(min(np.std(shares - level), 0.15))))
    return curves


def real(seed: int) -> Problem:
    """Shapes from real curves: configurations that share their choices share a curve."""
    landscape, quality = _landscape(SMOOTH, seed, 0.6)
    curves = _real_curves()

    def height(parameters: Mapping[str, Any], epoch: int) -> float:
        rate = int(4 * unit(landscape.space["learning_rate"], parameters["learning_rate"]))
        drawn = zlib.crc32(repr((seed, parameters["optimizer"], parameters["loss"], rate)).encode()) % len(curves)
        heights, noise = curves[drawn]
        return heights[epoch - 1] / heights[-1] + noise * _normal(seed + 1, parameters, epoch)

    return Problem(SMOOTH, quality, height, 0.01, seed)


def slow_starters(seed: int) -> Problem:
    """The better a backbone in the end, the lower it begins; the other settings leave the curve as it is."""
    landscape, quality = _landscape(CATEGORICAL, seed, 0.35)
    table = landscape.tables["backbone"]

    def height(parameters: Mapping[str, Any], epoch: int) -> float:
        return power(0.25 + 0.45 * table[parameters["backbone"]], epoch)

    return Problem(CATEGORICAL, quality, height, 0.02, seed)


def unstable(seed: int) -> Problem:
    """A learning rate well above the best one diverges, from the second to the twelfth epoch on."""
    landscape, quality = _landscape(SMOOTH, seed, 0.6)

    def excess(parameters: Mapping[str, Any]) -> float:
        return landscape.away("learning_rate", parameters) - 0.15

    def stable(parameters: Mapping[str, Any]) -> float:
        return quality(parameters) if excess(parameters) <= 0 else 0.05

    def height(parameters: Mapping[str, Any], epoch: int) -> float:
        if excess(parameters) <= 0:
            return power(0.5, epoch)
        breaks = 2 + 10 * max(0.0, 1 - excess(parameters) / 0.3)
        return power(0.5, epoch) * quality(parameters) / 0.05 if epoch < breaks else 1.0

    return Problem(SMOOTH, stable, height, 0.02, seed)


def entangled(seed: int) -> Problem:
    """Choices that fit together or do not: what one of them is worth depends on another one, as much as on itself."""
    landscape, _ = _landscape(CATEGORICAL, seed, 1)
    rng = np.random.default_rng([seed, 1])
    names = [name for name, dimension in landscape.space.items() if dimension.choice is not None and not dimension.when]
    pairs = list(zip(*[iter(rng.permutation(names).tolist())] * 2, strict=False))
    choices = {name: landscape.space[name].choice or () for name in names}

    def at(pair: tuple[str, str], parameters: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(choices[name].index(parameters[name]) for name in pair)

    best = {name: min(landscape.tables[name], key=landscape.tables[name].__getitem__) for name in names}
    tables = {pair: rng.uniform(0, 1, [len(choices[name]) for name in pair]) for pair in pairs}
    for pair, table in tables.items():
        table[at(pair, best)] = 0

    def quality(parameters: Mapping[str, Any]) -> float:
        misfit = sum(table[at(pair, parameters)] for pair, table in tables.items())
        return float(np.exp(-0.3 * (landscape.loss(parameters) + 0.8 * misfit)))

    return Problem(CATEGORICAL, quality, lambda parameters, epoch: power(0.5, epoch), 0.02, seed)


def late(seed: int) -> Problem:
    """Nothing is learnt for some epochs, the longer the lower the learning rate: the first rungs are full of ties at zero."""
    landscape, quality = _landscape(SMOOTH, seed, 0.6)

    def height(parameters: Mapping[str, Any], epoch: int) -> float:
        begins = 1 + 6 * (1 - unit(landscape.space["learning_rate"], parameters["learning_rate"]))
        return power(0.0, epoch) if epoch >= begins else 0.0

    return Problem(SMOOTH, quality, height, 0.005, seed)


FAMILIES: dict[str, Callable[[int], Problem]] = {
    "smooth": smooth,
    "categorical": categorical,
    "crossing": crossing,
    "noisy": noisy,
    "needle": needle,
    "real": real,
    "slow starters": slow_starters,
    "unstable": unstable,
    "entangled": entangled,
    "late": late,
}
