"""Class weights of the loss's two terms, from the label counts of the training rows.

Only training rows count: validation labels must not shape what is trained. A new kind of weights is one function of the label
counts, registered here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpa_search.config import TrialConfig
from hpa_search.labels import NUM_LABELS
from hpa_search.registry import Registry

LEAST_LN = 0.1
"""The least weight of "ln". ln(#neg/#pos) is 0 or less for a class on at least half of the images."""

Weighting = Callable[[TrialConfig, NDArray[np.int64], int], NDArray[np.float64]]
"""Takes the configuration, the positives (k,) of the classes in use and the number of rows; returns weights (k,)."""

CLASS_WEIGHTS: Registry[Weighting] = Registry("class_weights")


def _all_used() -> NDArray[np.bool_]:
    return np.ones(NUM_LABELS, dtype=bool)


@dataclass(frozen=True)
class ClassWeights:
    """Weights of the loss's two terms: ``positive`` (28,) for set labels, ``negative`` (28,) for unset ones.

    ``used`` (28,) is true for the classes in the loss; the weights of the others are ignored. Raises ValueError for unequal
    shapes, a negative or infinite weight, NaN, or no class in use.
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    used: NDArray[np.bool_] = field(default_factory=_all_used)

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            weights = getattr(self, name)
            if not (np.isfinite(weights).all() and (weights >= 0).all()):
                raise ValueError(f"{name} class weights must be finite and not negative: {weights}")
        if not self.positive.shape == self.negative.shape == self.used.shape:
            raise ValueError(f"shapes differ: {self.positive.shape}, {self.negative.shape} and used {self.used.shape}")
        if self.used.dtype != np.bool_ or not self.used.any():
            raise ValueError("used must be bool and leave the loss at least one class")


def class_weights(config: TrialConfig, labels: NDArray[np.bool_], used: NDArray[np.bool_] | None = None) -> ClassWeights:
    """Return the weights that ``config`` names, from the training rows' ``labels`` (n, 28), n >= 1.

    ``used`` (28,) marks the classes in the loss, None all; the other classes get weight 1. `weight_site` "positive" weights
    only the positive term, "both" weights both. Raises ValueError for a name that is not registered, and as `ClassWeights`
    does.
    """
    used = _all_used() if used is None else used
    weights, ones = np.ones(NUM_LABELS), np.ones(NUM_LABELS)
    weights[used] = CLASS_WEIGHTS[config.class_weights](config, labels[:, used].sum(axis=0), len(labels))
    return ClassWeights(weights, weights if config.weight_site == "both" else ones, used)


@CLASS_WEIGHTS.register("none")
def _none(config: TrialConfig, positives: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    return np.ones(len(positives))


@CLASS_WEIGHTS.register("full")
def _full(config: TrialConfig, positives: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """Return #neg/#pos (Cruz-Albrecht, CS230 2018). On the positive term, it balances a class's two sides.

    Both counts are at least 1. A class without positives so weighs as much as with one. A class without negatives weighs
    1/rows.
    """
    return np.maximum(rows - positives, 1) / np.maximum(positives, 1)


@CLASS_WEIGHTS.register("ln")
def _ln(config: TrialConfig, positives: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """Return the natural log of #neg/#pos (Cruz-Albrecht, CS230 2018), at least LEAST_LN, with counts as in `_full`."""
    return np.maximum(LEAST_LN, np.log(_full(config, positives, rows)))


@CLASS_WEIGHTS.register("1-f")
def _one_minus_frequency(config: TrialConfig, positives: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """Return (1 - f)^k, where f is the share of rows with the class and k is `weight_power`.

    k = 1: Pompey and Solomos, CS230 2018; k = 2: the competition's second place. A class without positives weighs 1, the
    maximum. A class on every row has nothing to learn and weighs 0.
    """
    assert config.weight_power is not None
    return (1 - positives / rows) ** config.weight_power


@CLASS_WEIGHTS.register("effective")
def _effective(config: TrialConfig, positives: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    """Return the inverse effective number of positives, (1 - b) / (1 - b^n), where b is `weight_beta`.

    Cui et al. 2019 (arXiv 1901.05555), equation 4. As there, the weights are scaled to sum to the number of classes (in use).
    A class without positives weighs as much as with one, the maximum.
    """
    assert config.weight_beta is not None
    inverse = (1 - config.weight_beta) / (1 - config.weight_beta ** np.maximum(positives, 1))
    return inverse * len(inverse) / inverse.sum()
