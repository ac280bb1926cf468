"""The rule of system S2: a search on a grid of cuts."""

from numpy.typing import ArrayLike

from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.cuts import grid_plus
from hpa_search.scoring.rules.base import rule, uncalibrated
from hpa_search.scoring.thresholds import DecisionRule


@rule("grid")
def grid(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Search each class's cut on S2's grid of 1,000, and add 1e-4."""
    return uncalibrated(logits, labels, fill, grid_plus)
