"""The ways to fit a decision rule to logits and labels, by name. `plug_in` is the default, by evidence: see RESULTS.md.

Each function takes logits (n, k) and labels (n, k) and returns a `DecisionRule`. ``trained`` (k,) bool says of which classes
the network has seen positives (None: of all), ``start`` is a calibration of nearly the same rows, which saves time and
changes nothing.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.special import logit as exact_logit

from hpa_search.registry import Registry
from hpa_search.scoring.calibration import Floats, Platt
from hpa_search.scoring.cuts import exact, grid_plus, plug_in, proportion, shared
from hpa_search.scoring.estimate import stratified_folds
from hpa_search.scoring.metrics import Booleans, as_labels, as_scores
from hpa_search.scoring.partial_pooling import PooledFit, calibrate
from hpa_search.scoring.thresholds import DecisionRule

DEFAULT = "plug_in"

UNSEEN = 0.5
"""The least threshold of a class that nobody has seen, neither the network nor its rule: claimed if likelier than not."""

# Where a probability is 0 or 1, its log odds are those of the next one.
_MARGIN = 1e-15


class FitRule(Protocol):
    """Fits a decision rule; see above."""

    def __call__(
        self, logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool
    ) -> DecisionRule:
        """Return the rule for ``logits`` (n, k) and ``labels`` (n, k)."""


RULES = Registry[FitRule]("thresholds")


def fit_rule(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    name: str = DEFAULT,
    trained: ArrayLike | None = None,
    start: Platt | None = None,
    fill: bool = True,
) -> DecisionRule:
    """Fit the rule ``name`` (see RULES) to ``logits`` (n, k) and ``labels`` (n, k).

    Raises ValueError for an unknown name, NaN or unequal shapes.
    """
    return RULES[name](logits, labels, trained=trained, start=start, fill=fill)


@RULES.register("plug_in")
def _plug_in(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Calibrate, each class pulled to what all have in common, and cut where F1 is best if the calibration is right.

    The plug-in value is that of the moderated probabilities (`PooledFit.moderated`): for a class with one or two
    positives the calibration itself is uncertain, and pretending it is not claims too few rows.
    """
    truth = as_labels(labels)
    fit = PooledFit.of(logits, truth, start)
    careful, plain = fit.moderated(), fit.platt.probabilities(logits)
    thresholds = _careful_of_absent(_same_cut(plug_in(careful), careful, plain), plain, truth)
    return DecisionRule(fit.platt, _careful_of_unseen(thresholds, truth, trained), fill)


@RULES.register("proportion")
def _proportion(
    logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool
) -> DecisionRule:
    """Claim each class as often as it occurs; one without positives by the plug-in rule."""
    rule = _plug_in(logits, labels, trained=trained, start=start, fill=fill)
    return DecisionRule(rule.platt, proportion(rule.probabilities(logits), labels, rule.thresholds), fill)


@RULES.register("exact")
def _exact(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Search the cut with the highest F1 of each class on these rows."""
    return _uncalibrated(logits, labels, fill, lambda p, truth: _careful_of_absent(exact(p, truth), p, truth))


@RULES.register("global")
def _global(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Search one cut for all classes, on the probabilities as they are."""
    return _uncalibrated(
        logits, labels, fill, lambda p, truth: _careful_of_absent(np.full(p.shape[1], shared(p, truth)), p, truth)
    )


@RULES.register("grid")
def _grid(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """S2's grid of 1,000 cuts, and 1e-4 on top."""
    return _uncalibrated(logits, labels, fill, grid_plus)


@RULES.register("half")
def _half(logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool) -> DecisionRule:
    """Claim what is likelier than not, by the probabilities as they are."""
    return _uncalibrated(logits, labels, fill, lambda p, truth: np.full(p.shape[1], 0.5))


def _uncalibrated(logits: ArrayLike, labels: ArrayLike, fill: bool, cut: Callable[[Floats, Booleans], Floats]) -> DecisionRule:
    """Return the rule that takes the probabilities as they are and applies the thresholds (k,) that ``cut`` finds for them."""
    truth = as_labels(labels)
    platt = Platt(np.ones(truth.shape[1]), np.zeros(truth.shape[1]))
    p = platt.probabilities(as_scores(logits, truth.shape, name="logits"))
    return DecisionRule(platt, cut(p, truth), fill)


def _same_cut(thresholds: Floats, careful: Floats, probabilities: Floats) -> Floats:
    """Return the thresholds (k,) on ``probabilities`` (n, k) that cut where ``thresholds`` cut the ``careful`` ones.

    Both rise with the logit; between two rows the cut is interpolated in log odds, and below all it keeps its distance.
    """
    odds = [exact_logit(np.clip(p, _MARGIN, 1 - _MARGIN)) for p in (thresholds, careful, probabilities)]
    cuts = [_interpolate(cut, seen, plain) for cut, seen, plain in zip(odds[0], odds[1].T, odds[2].T, strict=True)]
    return np.where(thresholds < 1, expit(cuts), 1.0)


def _interpolate(cut: float, careful: Floats, plain: Floats) -> float:
    order = np.argsort(plain, kind="stable")
    # Far outside the rows that it was fitted to, moderation may turn an order round by a hair.
    rising = np.maximum.accumulate(careful[order])
    return float(np.interp(cut, rising, plain[order]) + min(cut - rising[0], 0.0))


def _careful_of_absent(thresholds: Floats, probabilities: Floats, labels: Booleans) -> Floats:
    """Raise the thresholds of classes without positives above the median of their probabilities.

    Where a network gives all rows nearly the same score, everything is the plug-in rule's best cut; but a class that none of
    these rows carries is surely not carried by half of others.
    """
    above = np.nextafter(np.median(probabilities, axis=0), 1)
    return np.where(labels.any(axis=0), thresholds, np.maximum(thresholds, above))


def _careful_of_unseen(thresholds: Floats, labels: Booleans, trained: ArrayLike | None) -> Floats:
    """Raise the thresholds of classes that nobody has seen to `UNSEEN`.

    Where the network has seen positives, its scores are worth a plug-in threshold even if these rows hold none; where
    neither has, nothing shows when the class occurs.
    """
    if trained is None:
        return thresholds
    unseen = ~(np.asarray(trained, dtype=bool) | labels.any(axis=0))
    return np.where(unseen, np.maximum(thresholds, UNSEEN), thresholds)


def cross_fitted(
    logits: ArrayLike,
    labels: ArrayLike,
    folds: int = 5,
    seed: int = 0,
    groups: ArrayLike | None = None,
    fill: bool = True,
    name: str = DEFAULT,
) -> Booleans:
    """Return labels (n, k) of every row by a rule fitted to the other folds: the macro F1 of these is not flattered.

    Folds are stratified and seeded (`estimate.stratified_folds`); rows of one group share a fold.
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
