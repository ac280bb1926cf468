"""The rule `global`: one cut for all classes."""

import numpy as np
from numpy.typing import ArrayLike

from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.cuts import shared
from hpa_search.scoring.rules.base import careful_of_absent, rule, uncalibrated
from hpa_search.scoring.thresholds import DecisionRule


@rule("global", absent="the classes together")
def one_cut(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Search one cut for all classes, with the highest macro F1 on these rows."""
    return uncalibrated(logits, labels, fill, lambda p, truth: careful_of_absent(np.full(p.shape[1], shared(p, truth)), p, truth))
