"""Per-class thresholds: from calibrated probabilities alone, from labels, and the rule that turns logits into labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.calibration import Platt, as_probabilities, fit_platt, frozen_vector, read_vector
from hpa_search.scoring.estimate import stratified_folds
from hpa_search.scoring.metrics import Booleans, Floats, as_labels, f1_of_counts

# A class is predicted where its probability is >= its threshold, everywhere in this package.


UNSEEN = 0.5
"""The least threshold of a class that nobody has seen, neither the network nor its rule: claimed if likelier than not."""


def plug_in(probabilities: ArrayLike) -> Floats:
    """Return the thresholds (k,) that maximise each class's expected F1 if ``probabilities`` (n, k) are calibrated.

    Keeping the j likeliest rows has the plug-in value 2 * sum_{i<=j} p_i / (j + sum p) (Koyejo, Natarajan, Ravikumar
    and Dhillon 2014; the optimum lies near F*/2, Lipton, Elkan and Narayanaswamy 2014, arXiv 1402.1892). Cuts lie
    between distinct probabilities only, midway between the last kept and the first dropped (0 if none is dropped);
    of equal cuts the one that keeps fewest rows. A class whose probabilities are all 0 gets 1.
    Raises ValueError for NaN or values outside [0, 1].
    """
    columns = _descending(as_probabilities(probabilities))
    kept = np.arange(1, columns.shape[1] + 1)
    value = 2 * np.cumsum(columns, axis=1) / (kept + columns.sum(axis=1, keepdims=True))
    value[~_ends(columns)] = -1
    best = value.argmax(axis=1)[:, None]
    last_kept = np.take_along_axis(columns, best, axis=1)
    following = np.take_along_axis(columns, np.minimum(best + 1, columns.shape[1] - 1), axis=1)
    first_dropped = np.where(best + 1 < columns.shape[1], following, 0.0)
    return np.where(columns[:, 0] > 0, _between(last_kept, first_dropped)[:, 0], 1.0)


def exact(probabilities: ArrayLike, labels: ArrayLike, fallback: ArrayLike = 0.5) -> Floats:
    """Return the thresholds (k,) with the highest F1 on these very rows (SCut, Yang 2001), found exactly.

    Cuts lie between distinct probabilities only, at the midpoint (below the last: half of it); of equally good cuts
    the one nearest to ``fallback`` (a number or (k,)). A class without positives gets its ``fallback``: every cut has F1 0 there,
    and an argmax would end at "everything". The F1 on these rows flatters: see `estimate`.
    Raises ValueError for NaN, values outside [0, 1], or unequal shapes.
    """
    truth = as_labels(labels)
    p = as_probabilities(probabilities, truth.shape).astype(np.float64, copy=False)
    order = np.argsort(-p.T, axis=1, kind="stable")
    columns = np.take_along_axis(p.T, order, axis=1)
    hits = np.cumsum(np.take_along_axis(truth.T, order, axis=1), axis=1)
    positives = hits[:, -1:]
    f1 = np.where(_ends(columns), f1_of_counts(hits, np.arange(1, hits.shape[1] + 1) + positives), -1)
    wanted = np.broadcast_to(np.asarray(fallback, dtype=np.float64), len(columns))
    cuts = _between(columns, np.pad(columns[:, 1:], ((0, 0), (0, 1))))
    distance = np.where(f1 == f1.max(axis=1, keepdims=True), np.abs(cuts - wanted[:, None]), np.inf)
    found = cuts[np.arange(len(cuts)), distance.argmin(axis=1)]
    return np.where(positives[:, 0] > 0, found, wanted)


def _descending(probabilities: NDArray[np.floating]) -> Floats:
    """Return the columns (k, n) of ``probabilities`` (n, k), each from the largest to the smallest."""
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(f"probabilities must be rows x classes, got shape {probabilities.shape}")
    return np.sort(np.ascontiguousarray(probabilities.T, dtype=np.float64), axis=1)[:, ::-1]


def _ends(columns: Floats) -> Booleans:
    """Return where a run of equal values ends in each descending row of ``columns``: the places where a cut may lie."""
    ends = np.ones(columns.shape, dtype=bool)
    np.not_equal(columns[:, :-1], columns[:, 1:], out=ends[:, :-1])
    return ends


def _between(kept: Floats, dropped: Floats) -> Floats:
    """Return the middle of ``kept`` > ``dropped``; ``kept`` itself where rounding would let the dropped value in."""
    middle = (kept + dropped) / 2
    return np.where(middle > dropped, middle, kept)


@dataclass(frozen=True, eq=False)
class Decision:
    """Labels (n, k) bool with no empty row, and the number of rows that had none and got their likeliest label."""

    labels: Booleans
    filled: int


def decide(probabilities: ArrayLike, thresholds: ArrayLike, fill: bool = True) -> Decision:
    """Label ``probabilities`` (n, k) where they reach ``thresholds`` (k,), and a row that reaches none with its likeliest class.

    Every image of the task has a label, so an empty row is surely wrong; unless only some labels are looked at: then
    ``fill`` is false. Raises ValueError for NaN or unequal k.
    """
    p, limits = as_probabilities(probabilities), np.asarray(thresholds, dtype=np.float64)
    if p.ndim != 2 or limits.shape != p.shape[1:] or np.isnan(limits).any():
        raise ValueError(f"thresholds of shape {limits.shape}, NaN or not, do not fit probabilities of shape {p.shape}")
    labels = p >= limits
    empty = np.flatnonzero(~labels.any(axis=1)) if fill else np.array([], dtype=np.intp)
    labels[empty, p[empty].argmax(axis=1)] = True
    return Decision(labels, len(empty))


@dataclass(frozen=True, eq=False)
class DecisionRule:
    """Calibration and thresholds as one object, for they mean nothing apart; ``thresholds`` (k,) lie in [0, 1].

    ``fill`` says whether a row below all of them gets its likeliest label; see `decide`.
    """

    platt: Platt
    thresholds: Floats
    fill: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", frozen_vector(self.thresholds, "thresholds"))
        if self.thresholds.shape != self.platt.slope.shape:
            raise ValueError(f"{self.thresholds.size} thresholds but a calibration of {self.platt.slope.size} classes")
        if self.thresholds.min() < 0 or self.thresholds.max() > 1:
            raise ValueError("'thresholds' must lie between 0 and 1")

    def probabilities(self, logits: ArrayLike) -> Floats:
        """Return the calibrated probabilities (n, k) of ``logits`` (n, k)."""
        return self.platt.probabilities(logits)

    def predict(self, logits: ArrayLike) -> Decision:
        """Return the labels (n, k) of ``logits`` (n, k)."""
        return self.decide(self.probabilities(logits))

    def decide(self, probabilities: ArrayLike) -> Decision:
        """Return the labels (n, k) of calibrated ``probabilities`` (n, k)."""
        return decide(probabilities, self.thresholds, self.fill)

    def to_json(self) -> dict[str, Any]:
        """Return the rule as numbers that `from_json` reads back exactly."""
        return {"platt": self.platt.to_json(), "thresholds": self.thresholds.tolist(), "fill": self.fill}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "DecisionRule":
        """Read what `to_json` wrote; ValueError that names a field that is missing or wrong."""
        if not isinstance(content.get("platt"), Mapping):
            raise ValueError("'platt' is missing or not a table of 'slope' and 'offset'")
        if not isinstance(content.get("fill"), bool):
            raise ValueError("'fill' is missing or neither true nor false")
        return cls(Platt.from_json(content["platt"]), read_vector(content, "thresholds"), content["fill"])


def fit_rule(
    logits: ArrayLike, labels: ArrayLike, start: Platt | None = None, trained: ArrayLike | None = None, fill: bool = True
) -> DecisionRule:
    """Fit Platt calibration to ``logits`` (n, k), then plug-in thresholds to the calibrated probabilities.

    On held-out predictions of real models this beats the exact search of thresholds by 0.02 to 0.03 macro F1 when
    fitted on 1,500 to 3,000 rows. ``start``, a calibration of nearly the same rows, saves time and changes nothing.
    ``trained`` (k,) bool says of which classes the network has seen positives (default: of all). Where it has, its scores
    are worth a plug-in threshold even if these rows hold no positive; where neither has any, nothing shows when it occurs.
    """
    platt = fit_platt(logits, labels, start=start)
    thresholds = plug_in(platt.probabilities(logits))
    if trained is not None:
        unseen = ~(np.asarray(trained, dtype=bool) | as_labels(labels).any(axis=0))
        thresholds = np.where(unseen, np.maximum(thresholds, UNSEEN), thresholds)
    return DecisionRule(platt, thresholds, fill)


def cross_fitted(
    logits: ArrayLike, labels: ArrayLike, folds: int = 5, seed: int = 0, groups: ArrayLike | None = None, fill: bool = True
) -> Booleans:
    """Return labels (n, k) of every row by a rule fitted to the other folds: the macro F1 of these is not flattered.

    Folds are stratified and seeded (`estimate.stratified_folds`); rows of one group share a fold.
    """
    z, truth = np.asarray(logits), as_labels(labels)
    fold = stratified_folds(truth, folds, seed, groups)
    start = fit_platt(z, truth)
    predicted = np.empty_like(truth)
    for held_out in range(folds):
        inside = fold == held_out
        predicted[inside] = fit_rule(z[~inside], truth[~inside], start, fill=fill).predict(z[inside]).labels
    return predicted
