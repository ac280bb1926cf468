"""Thresholds of each class: from calibrated probabilities alone, or searched with the labels.

Everywhere in this package a class is predicted if its probability is >= its threshold.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.calibration import as_probabilities
from hpa_search.scoring.metrics import Booleans, Floats, as_labels, f1_of_counts

GRID_INTERCEPT = 1e-4


def plug_in(probabilities: ArrayLike) -> Floats:
    """Return the thresholds (k,) that maximise F1 if ``probabilities`` (n, k) are calibrated.

    Keeping the j likeliest rows has the plug-in value F = 2 * sum_{i<=j} p_i / (j + sum p) (Koyejo, Natarajan, Ravikumar and
    Dhillon 2014). Let F* be the largest of these. The rows to keep have p >= F*/2 (Lipton, Elkan and Narayanaswamy 2014, arXiv
    1402.1892). The threshold is F*/2 itself, not the middle of the gap around the best cut. That gap is an accident of these
    rows. A class whose probabilities are all 0 gets 1.
    Raises ValueError for NaN or values outside [0, 1].
    """
    columns = _descending(as_probabilities(probabilities))
    kept = np.arange(1, columns.shape[1] + 1)
    best = (2 * np.cumsum(columns, axis=1) / (kept + columns.sum(axis=1, keepdims=True))).max(axis=1)
    return np.where(best > 0, best / 2, 1.0)


def exact(probabilities: ArrayLike, labels: ArrayLike, fallback: ArrayLike = 0.5) -> Floats:
    """Return the thresholds (k,) with the highest F1 on these rows (SCut, Yang 2001).

    Cuts lie midway between distinct probabilities, the lowest at half the smallest. Ties go to the cut nearest to ``fallback``
    (a number or (k,)). A class without positives gets its ``fallback``. Every cut has F1 0 there, and an argmax would claim
    all rows. The F1 on these rows is too high: see `estimate`.
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


def proportion(probabilities: ArrayLike, labels: ArrayLike, fallback: ArrayLike = 0.5) -> Floats:
    """Return the thresholds (k,) that claim each class as often as it occurs here (PCut, Yang 2001).

    They lie midway between the last score kept and the first dropped. Equal scores are all kept. A class without positives
    gets its ``fallback`` (a number or (k,)). Raises ValueError for NaN, values outside [0, 1], or unequal shapes.
    """
    truth = as_labels(labels)
    columns = _descending(as_probabilities(probabilities, truth.shape))
    positives = truth.sum(axis=0)
    last = np.maximum(positives - 1, 0)[:, None]
    kept = np.take_along_axis(columns, last, axis=1)
    dropped = np.where(columns < kept, columns, 0).max(axis=1, keepdims=True)
    wanted = np.broadcast_to(np.asarray(fallback, dtype=np.float64), len(columns))
    return np.where(positives > 0, _between(kept, dropped)[:, 0], wanted)


def shared(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the single threshold, of 0.01, 0.02, ... 0.99, with the highest macro F1 on these rows.

    Ties go to the middle one. Raises ValueError for NaN, values outside [0, 1], or unequal shapes.
    """
    truth = as_labels(labels)
    p = as_probabilities(probabilities, truth.shape)
    grid = np.arange(1, 100) / 100
    scores = np.array([_macro_f1(p >= cut, truth) for cut in grid])
    best = np.flatnonzero(scores == scores.max())
    return float(grid[best[len(best) // 2]])


def grid_plus(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """Return S2's thresholds (k,): the first of 0, 0.001, ... 0.999 with the highest F1 of the class, plus 1e-4.

    This replays a published system and is not advice. For a class without positives every cut has F1 0, so the first wins. Its
    threshold, 0 + 1e-4, claims nearly every row. Raises ValueError for NaN, values outside [0, 1], or unequal shapes.
    """
    truth = as_labels(labels)
    p = as_probabilities(probabilities, truth.shape)
    grid = np.linspace(0, 0.999, 1000)
    found = [_first_best(p[:, c], truth[:, c], grid) for c in range(truth.shape[1])]
    return np.asarray(grid[found] + GRID_INTERCEPT)


def _first_best(scores: NDArray[np.floating], truth: Booleans, grid: Floats) -> int:
    """Return the first index of ``grid`` whose cut, ``scores`` >= grid, has the highest F1."""
    claimed = len(scores) - np.searchsorted(np.sort(scores), grid, side="left")
    hits = truth.sum() - np.searchsorted(np.sort(scores[truth]), grid, side="left")
    return int(f1_of_counts(hits, claimed + truth.sum()).argmax())


def _macro_f1(predicted: Booleans, truth: Booleans) -> float:
    return float(f1_of_counts((predicted & truth).sum(axis=0), predicted.sum(axis=0) + truth.sum(axis=0)).mean())


def _descending(probabilities: NDArray[np.floating]) -> Floats:
    """Return the columns (k, n) of ``probabilities`` (n, k), each in descending order."""
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(f"probabilities must be rows x classes, got shape {probabilities.shape}")
    return np.sort(np.ascontiguousarray(probabilities.T, dtype=np.float64), axis=1)[:, ::-1]


def _ends(columns: Floats) -> Booleans:
    """Return a mask of the last of each run of equal values in descending ``columns``. Cuts lie there."""
    ends = np.ones(columns.shape, dtype=bool)
    np.not_equal(columns[:, :-1], columns[:, 1:], out=ends[:, :-1])
    return ends


def _between(kept: Floats, dropped: Floats) -> Floats:
    """Return the middle of ``kept`` > ``dropped``, or ``kept`` where the middle rounds to ``dropped``."""
    middle = (kept + dropped) / 2
    return np.where(middle > dropped, middle, kept)
