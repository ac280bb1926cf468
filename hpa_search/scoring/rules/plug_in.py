"""The default rule: a pooled calibration, and the best cut if the calibration is right."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.special import logit as exact_logit

from hpa_search.scoring.calibration import Floats, Platt
from hpa_search.scoring.cuts import plug_in as best_cut
from hpa_search.scoring.metrics import Booleans, as_labels
from hpa_search.scoring.partial_pooling import PooledFit
from hpa_search.scoring.rules.base import careful_of_absent, rule
from hpa_search.scoring.thresholds import DecisionRule

UNSEEN = 0.5
"""The least threshold of a class without positives in training and among the rule's rows."""

# Probabilities nearer than this to 0 or 1 get the log odds of the margin.
_MARGIN = 1e-15


@rule("plug_in", absent="the classes together", unseen=f"the classes together, at least {UNSEEN}")
def plug_in(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Calibrate, then cut where F1 is best if the calibration is right.

    The calibration pulls each class to the common map of all classes. The cut is that of the moderated probabilities
    (`PooledFit.moderated`). With one or two positives the calibration is uncertain. A cut that ignores this claims too few
    rows.
    """
    truth = as_labels(labels)
    fit = PooledFit.of(logits, truth, start)
    careful, plain = fit.moderated(), fit.platt.probabilities(logits)
    thresholds = careful_of_absent(_same_cut(best_cut(careful), careful, plain), plain, truth)
    return DecisionRule(fit.platt, _careful_of_unseen(thresholds, truth, trained), fill)


def _same_cut(thresholds: Floats, careful: Floats, probabilities: Floats) -> Floats:
    """Return the thresholds (k,) on ``probabilities`` (n, k) that cut where ``thresholds`` cut the ``careful`` ones.

    Both rise with the logit. Between two rows the cut is interpolated in log odds. Below all rows it keeps its distance.
    """
    odds = [exact_logit(np.clip(p, _MARGIN, 1 - _MARGIN)) for p in (thresholds, careful, probabilities)]
    cuts = [_interpolate(cut, seen, plain) for cut, seen, plain in zip(odds[0], odds[1].T, odds[2].T, strict=True)]
    return np.where(thresholds < 1, expit(cuts), 1.0)


def _interpolate(cut: float, careful: Floats, plain: Floats) -> float:
    order = np.argsort(plain, kind="stable")
    # Far outside the rows that it was fitted to, moderation may reverse an order by a hair.
    rising = np.maximum.accumulate(careful[order])
    return float(np.interp(cut, rising, plain[order]) + min(cut - rising[0], 0.0))


def _careful_of_unseen(thresholds: Floats, labels: Booleans, trained: ArrayLike | None) -> Floats:
    """Raise the threshold to `UNSEEN` for each class without positives both in training and among these rows.

    With positives in training, scores deserve a plug-in threshold even if these rows hold none. Without any positives, nothing
    shows when the class occurs.
    """
    if trained is None:
        return thresholds
    unseen = ~(np.asarray(trained, dtype=bool) | labels.any(axis=0))
    return np.where(unseen, np.maximum(thresholds, UNSEEN), thresholds)
