"""Decision rules turn logits into labels: calibration, thresholds, and the fill of empty rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpa_search.rounding import LEAST, in_unit
from hpa_search.scoring.calibration import Platt, as_probabilities, frozen_vector
from hpa_search.scoring.metrics import Booleans, Floats


@dataclass(frozen=True, eq=False)
class Decision:
    """Labels (n, k) bool. ``filled`` counts the rows below all thresholds that got their likeliest label."""

    labels: Booleans
    filled: int


def decide(probabilities: ArrayLike, thresholds: ArrayLike, fill: bool = True) -> Decision:
    """Return the labels whose ``probabilities`` (n, k) reach their ``thresholds`` (k,).

    With ``fill`` a row below all thresholds gets its likeliest label. Every image of the task has a label, so an empty row is
    surely wrong. Set it to false if only some of the labels are considered. Raises ValueError for NaN or unequal k.
    """
    p, limits = as_probabilities(probabilities), np.asarray(thresholds, dtype=np.float64)
    if p.ndim != 2 or limits.shape != p.shape[1:] or np.isnan(limits).any():
        raise ValueError(f"thresholds of shape {limits.shape} hold NaN or do not fit probabilities of shape {p.shape}")
    labels = p >= limits
    empty = np.flatnonzero(~labels.any(axis=1)) if fill else np.array([], dtype=np.intp)
    labels[empty, p[empty].argmax(axis=1)] = True
    return Decision(labels, len(empty))


@dataclass(frozen=True, eq=False)
class DecisionRule:
    """A calibration with its thresholds (k,), from 0 to 1. Neither means anything alone.

    ``fill`` says whether a row below all thresholds gets its likeliest label; see `decide`.
    """

    platt: Platt
    thresholds: Floats
    fill: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", frozen_vector(self.thresholds, "thresholds"))
        if self.thresholds.shape != self.platt.slope.shape:
            raise ValueError(f"{self.thresholds.size} thresholds but a calibration of {self.platt.slope.size} classes")
        try:
            within = in_unit(self.thresholds, LEAST)
        except ValueError as error:
            raise ValueError(f"'thresholds' must lie between 0 and 1: {error}") from None
        object.__setattr__(self, "thresholds", frozen_vector(within, "thresholds"))

    def probabilities(self, logits: ArrayLike) -> Floats:
        """Return the calibrated probabilities (n, k) of ``logits`` (n, k)."""
        return self.platt.probabilities(logits)

    def predict(self, logits: ArrayLike) -> Decision:
        """Return the labels (n, k) of ``logits`` (n, k)."""
        return self.decide(self.probabilities(logits))

    def decide(self, probabilities: ArrayLike) -> Decision:
        """Return the labels (n, k) of calibrated ``probabilities`` (n, k)."""
        return decide(probabilities, self.thresholds, self.fill)
