"""The rule without a fit: a label is claimed where it is likelier than not."""

import numpy as np
from numpy.typing import ArrayLike

from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.rules.base import rule, uncalibrated
from hpa_search.scoring.thresholds import DecisionRule


@rule("half")
def half(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Cut at a probability of 0.5."""
    return uncalibrated(logits, labels, fill, lambda p, truth: np.full(p.shape[1], 0.5))
