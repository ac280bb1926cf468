"""How much each class's positives and negatives weigh in the loss, from the training rows' label counts.

Counts are those of the training rows only: validation labels must not shape what is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_LN = 0.1
"""ln(#neg/#pos) is 0 or less for a class on half of the images or more; such a class keeps this weight."""


@dataclass(frozen=True)
class ClassWeights:
    """Weights of the loss's two terms: ``positive`` (28,) where a label is set, ``negative`` (28,) where it is not."""

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            weights = getattr(self, name)
            if not (np.isfinite(weights).all() and (weights >= 0).all()):
                raise ValueError(f"{name} class weights must be finite and not negative: {weights}")


def class_weights(name: str, labels: NDArray[np.bool_]) -> ClassWeights:
    """Return the weights ``name`` for the training rows' ``labels`` (n, 28), n >= 1."""
    return CLASS_WEIGHTS[name](labels.sum(axis=0), len(labels))


def _none(positives: NDArray[np.int64], rows: int) -> ClassWeights:
    ones = np.ones(len(positives))
    return ClassWeights(ones, ones)


def _ln(positives: NDArray[np.int64], rows: int) -> ClassWeights:
    """Natural log of #neg/#pos (Cruz-Albrecht, CS230 2018) on the positive term, which is what that ratio balances."""
    negatives = np.maximum(rows - positives, 1)
    ratio = np.log(negatives / np.maximum(positives, 1))
    return ClassWeights(np.maximum(LEAST_LN, ratio), np.ones(len(positives)))


def _one_minus_frequency(positives: NDArray[np.int64], rows: int) -> ClassWeights:
    """1 - f on both terms (Pompey and Solomos, CS230 2018): common classes matter less, the balance within one stays."""
    weights = 1 - positives / rows
    return ClassWeights(weights, weights)


CLASS_WEIGHTS: dict[str, Callable[[NDArray[np.int64], int], ClassWeights]] = {
    "none": _none,
    "ln": _ln,
    "1-f": _one_minus_frequency,
}
