"""The rule that claims each class as often as it occurs (PCut, Yang 2001)."""

from numpy.typing import ArrayLike

from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.cuts import proportion as as_often
from hpa_search.scoring.rules.base import rule
from hpa_search.scoring.rules.plug_in import UNSEEN, plug_in
from hpa_search.scoring.thresholds import DecisionRule


@rule("proportion", absent="the classes together", unseen=f"the classes together, at least {UNSEEN}")
def proportion(
    logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool
) -> DecisionRule:
    """Calibrate, then claim each class as often as it occurs.

    A class without positives gets its plug-in threshold.
    """
    found = plug_in(logits, labels, trained=trained, start=start, fill=fill)
    return DecisionRule(found.platt, as_often(found.probabilities(logits), labels, found.thresholds), fill)
