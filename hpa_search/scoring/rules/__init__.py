"""Threshold rules by name. Each module here fits a decision rule and registers itself.

A new rule is a new module with a function under `base.rule`. `plug_in` is the default by evidence: see RESULTS.md.
"""

import numpy as np
from numpy.typing import ArrayLike

from hpa_search.registry import register_all
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.estimate import stratified_folds
from hpa_search.scoring.metrics import Booleans, as_labels
from hpa_search.scoring.partial_pooling import calibrate
from hpa_search.scoring.rules.base import RULES, FitRule, Rule
from hpa_search.scoring.rules.plug_in import UNSEEN
from hpa_search.scoring.thresholds import DecisionRule

__all__ = ["DEFAULT", "RULES", "UNSEEN", "FitRule", "Rule", "cross_fitted", "fit_rule"]

DEFAULT = "plug_in"

register_all(__name__, __path__, first=DEFAULT)


def fit_rule(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    name: str = DEFAULT,
    trained: ArrayLike | None = None,
    start: Platt | None = None,
    fill: bool = True,
) -> DecisionRule:
    """Return the rule ``name`` of `RULES`, fitted to ``logits`` and ``labels`` (n, k); see `FitRule`.

    Raises ValueError for an unknown name, NaN or unequal shapes.
    """
    return RULES[name].fit(logits, labels, trained=trained, start=start, fill=fill)


def cross_fitted(
    logits: ArrayLike,
    labels: ArrayLike,
    folds: int = 5,
    seed: int = 0,
    groups: ArrayLike | None = None,
    fill: bool = True,
    name: str = DEFAULT,
) -> Booleans:
    """Return the labels (n, k) of every row by a rule fitted to the other folds.

    So their macro F1 is not flattered. Folds are stratified and seeded (`estimate.stratified_folds`). Rows of a group share a
    fold.
    """
    z, truth = np.asarray(logits), as_labels(labels)
    fold = stratified_folds(truth, folds, seed, groups)
    start = calibrate(z, truth)
    predicted = np.empty_like(truth)
    for held_out in range(folds):
        inside = fold == held_out
        rule = fit_rule(z[~inside], truth[~inside], name=name, start=start, fill=fill)
        predicted[inside] = rule.predict(z[inside]).labels
    return predicted
