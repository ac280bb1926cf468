"""The rule that searches each class's best cut (SCut, Yang 2001)."""

from numpy.typing import ArrayLike

from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.cuts import exact as best_cut
from hpa_search.scoring.rules.base import careful_of_absent, rule, uncalibrated
from hpa_search.scoring.thresholds import DecisionRule


@rule("exact")
def exact(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Search each class's cut with the highest F1 on these rows."""
    return uncalibrated(logits, labels, fill, lambda p, truth: careful_of_absent(best_cut(p, truth), p, truth))
