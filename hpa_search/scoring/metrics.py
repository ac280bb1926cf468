"""Scores of a multi-label prediction: average precision and F1, per class and averaged.

Everywhere: n rows (images), k classes; ``scores`` (n, k) of any real type, ``labels`` and ``predicted`` (n, k) bool or 0/1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.rounding import spare

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Rows = NDArray[np.intp]


def as_labels(labels: ArrayLike, name: str = "labels") -> Booleans:
    """Return ``labels`` as a bool array (n, k); ValueError unless it is 2-D with at least one row and holds 0 and 1 only.

    What misses 0 or 1 by rounding is taken for it, and so is text such as "1.0".
    """
    array = np.asarray(labels)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must be rows x classes with at least one of each, got shape {array.shape}")
    if array.dtype == bool or ((array == 0) | (array == 1)).all():
        return array.astype(bool, copy=False)
    numbers = _numbers(array)
    slack = spare(array.dtype if array.dtype.kind == "f" else numbers.dtype)
    ones = np.abs(numbers - 1) <= slack
    other = ~ones & ~(np.abs(numbers) <= slack)
    if other.any():
        row, column = np.unravel_index(other.argmax(), other.shape)
        found = str(array[row, column]) if array.dtype.kind in _REAL else repr(array[row].tolist()[column])
        raise ValueError(f"{name} must hold 0 and 1 only (found {found} in row {row + 1}, column {column + 1})")
    return ones


_REAL = "iuf"


def _numbers(array: NDArray[Any]) -> Floats:
    """Return ``array`` as float64, NaN where a value is no number."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return np.array([_number(value) for value in array.ravel().tolist()]).reshape(array.shape)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def as_scores(scores: ArrayLike, shape: tuple[int, ...] | None = None, name: str = "scores") -> NDArray[np.floating]:
    """Return ``scores`` as float32 or float64, without loss; ValueError for NaN or another shape than ``shape``."""
    array = np.asarray(scores)
    if array.dtype != np.float32:
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64, copy=False)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} have shape {array.shape}, the labels have {shape}")
    if np.isnan(array).any():
        raise ValueError(f"{name} hold NaN")
    return array


def average_precision(scores: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the average precision of each class, shape (k,); NaN for a class without positives.

    AP = sum over cuts of (recall step) x precision, cuts lying between distinct scores only, as
    `sklearn.metrics.average_precision_score` defines it. Raises ValueError for NaN scores or unequal shapes.
    """
    truth = as_labels(labels)
    return precision_of_columns(np.ascontiguousarray(as_scores(scores, truth.shape).T), positive_rows(truth))


def positive_rows(labels: Booleans) -> list[Rows]:
    """Return, for each class, the rows that carry it."""
    return [np.flatnonzero(column) for column in labels.T]


def precision_of_columns(columns: NDArray[Any], positives: Sequence[Rows]) -> Floats:
    """Return the average precision of each row of ``columns`` (k, n) whose positives are at ``positives[k]``.

    The unchecked core of `average_precision`, for callers that score many predictions of the same labels. Integers of 16 bits
    take a third of the time of float32: numpy sorts them by radix.
    """
    ordered = np.sort(columns, axis=1, kind="stable" if columns.dtype.itemsize <= 2 else None)
    return np.array([_precision(ordered[c], columns[c, rows]) for c, rows in enumerate(positives)])


def _precision(ordered: NDArray[Any], hits: NDArray[Any]) -> float:
    """Return the mean, over the positives' scores ``hits``, of the precision of the cut just below each.

    Sorting values and counting by bisection is several times faster than an argsort, and ties need no care.
    """
    if not len(hits):
        return float("nan")
    hits = np.sort(hits)
    kept = len(ordered) - np.searchsorted(ordered, hits, side="left")
    found = len(hits) - np.searchsorted(hits, hits, side="left")
    return float((found / kept).sum() / len(hits))


def macro_average_precision(scores: ArrayLike, labels: ArrayLike, classes: ArrayLike | None = None) -> float:
    """Return the mean average precision over ``classes``: a bool mask (k,), class indices, or None for all with positives.

    Raises ValueError for NaN scores, unequal shapes, no class at all, or a chosen class without positives.
    """
    truth = as_labels(labels)
    chosen = class_indices(classes, truth)
    return float(average_precision(np.asarray(scores)[:, chosen], truth[:, chosen]).mean())


def class_indices(classes: ArrayLike | None, labels: Booleans) -> Rows:
    """Return ``classes`` (mask, indices, or None: those with positives) as indices; ValueError if one has no positives."""
    present = np.asarray(labels.any(axis=0))
    chosen = np.arange(labels.shape[1])[present if classes is None else _index(classes)]
    if not chosen.size:
        raise ValueError("average precision needs at least one class with a positive row")
    if not present[chosen].all():
        raise ValueError(f"average precision is undefined for classes without positives: {chosen[~present[chosen]].tolist()}")
    return chosen


def _index(classes: ArrayLike) -> Booleans | Rows:
    """Return a mask as it is and anything else as integers, an empty list among them."""
    array = np.asarray(classes)
    return array if array.dtype == bool else array.astype(np.intp)


def f1_of_counts(hits: ArrayLike, claims: ArrayLike) -> Floats:
    """Return F1 = 2 TP / (predicted + actual), elementwise, with 0/0 = 0; ``hits`` is TP, ``claims`` the denominator."""
    hits, claims = np.asarray(hits, dtype=np.float64), np.asarray(claims, dtype=np.float64)
    return 2 * hits / np.maximum(claims, 1)


def f1_per_class(predicted: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the F1 of each class, shape (k,); 0 where a class is neither predicted nor present."""
    guess, truth = _pair(predicted, labels)
    return f1_of_counts((guess & truth).sum(axis=0), guess.sum(axis=0) + truth.sum(axis=0))


def macro_f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean of the F1 of all k classes, also those without positives (sklearn `average="macro"`)."""
    return float(f1_per_class(predicted, labels).mean())


def sample_f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean over rows of each row's F1 (sklearn `average="samples"`, 0/0 = 0)."""
    guess, truth = _pair(predicted, labels)
    return float(f1_of_counts((guess & truth).sum(axis=1), guess.sum(axis=1) + truth.sum(axis=1)).mean())


def all_positive_floor(labels: ArrayLike) -> float:
    """Return the macro F1 of predicting every label on every row: what a system must beat to have learnt anything."""
    truth = as_labels(labels)
    return macro_f1(np.ones_like(truth), truth)


def _pair(predicted: ArrayLike, labels: ArrayLike) -> tuple[Booleans, Booleans]:
    guess, truth = as_labels(predicted, "predictions"), as_labels(labels)
    if guess.shape != truth.shape:
        raise ValueError(f"predictions have shape {guess.shape}, the labels have {truth.shape}")
    return guess, truth
