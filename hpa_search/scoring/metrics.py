"""Scores of a multi-label prediction: average precision and F1, per class and averaged.

There are n rows (images) and k classes. ``scores`` (n, k) have any real type; ``labels`` and ``predicted`` (n, k) are bool or
0/1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.rounding import spare

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Indices = NDArray[np.intp]


def as_labels(labels: ArrayLike, name: str = "labels") -> Booleans:
    """Return ``labels`` as a bool array (n, k). Numbers within rounding of 0 or 1 pass, and text such as "1.0".

    Raises ValueError for other values, another rank than 2, or an empty array.
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
    """Return ``array`` as float64, with NaN for values that are not numbers."""
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
    """Return ``scores`` as float32 or float64, without loss. Raises ValueError for NaN or a shape other than ``shape``."""
    array = np.asarray(scores)
    if array.dtype != np.float32:
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64, copy=False)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} have shape {array.shape}, the labels have {shape}")
    if np.isnan(array).any():
        raise ValueError(f"{name} hold NaN")
    return array


def average_precision(scores: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the average precision (k,) of each class, NaN for a class without positives.

    AP = sum over cuts of (recall step) x precision. Cuts lie between distinct scores only, as in
    `sklearn.metrics.average_precision_score`. Raises ValueError for NaN scores or unequal shapes.
    """
    truth = as_labels(labels)
    return precision_of_columns(np.ascontiguousarray(as_scores(scores, truth.shape).T), positive_rows(truth))


def positive_rows(labels: Booleans) -> list[Indices]:
    """Return the rows that carry each class."""
    return [np.flatnonzero(column) for column in labels.T]


def precision_of_columns(columns: NDArray[Any], positives: Sequence[Indices]) -> Floats:
    """Return the average precision (k,) of ``columns`` (k, n), with positives at ``positives[k]``.

    This is `average_precision` without checks, for many predictions of the same labels. 16-bit integers take a third of the
    time of float32: numpy sorts them by radix.
    """
    ordered = np.sort(columns, axis=1, kind="stable" if columns.dtype.itemsize <= 2 else None)
    return np.array([_precision(ordered[c], columns[c, rows]) for c, rows in enumerate(positives)])


def _precision(ordered: NDArray[Any], hits: NDArray[Any]) -> float:
    """Return the mean precision of the cuts just below each positive's score in ``hits``.

    Sorting and bisection are several times as fast as an argsort. Ties need no extra care.
    """
    if not len(hits):
        return float("nan")
    hits = np.sort(hits)
    kept = len(ordered) - np.searchsorted(ordered, hits, side="left")
    found = len(hits) - np.searchsorted(hits, hits, side="left")
    return float((found / kept).sum() / len(hits))


def macro_average_precision(scores: ArrayLike, labels: ArrayLike, classes: ArrayLike | None = None) -> float:
    """Return the mean average precision over ``classes``.

    They are a mask (k,), indices, or None for all with positives. Raises ValueError for NaN scores, unequal shapes, an empty
    choice, or a chosen class without positives.
    """
    truth = as_labels(labels)
    chosen = class_indices(classes, truth)
    return float(average_precision(np.asarray(scores)[:, chosen], truth[:, chosen]).mean())


def class_indices(classes: ArrayLike | None, labels: Booleans) -> Indices:
    """Return ``classes`` (mask, indices, or None: all with positives) as indices.

    Raises ValueError for an empty choice, or a chosen class without positives.
    """
    present = np.asarray(labels.any(axis=0))
    chosen = np.arange(labels.shape[1])[present if classes is None else _index(classes)]
    if not chosen.size:
        raise ValueError("average precision needs at least one class with a positive row")
    if not present[chosen].all():
        raise ValueError(f"average precision is undefined for classes without positives: {chosen[~present[chosen]].tolist()}")
    return chosen


def _index(classes: ArrayLike) -> Booleans | Indices:
    """Return a mask unchanged, and other values as integers, even an empty list."""
    array = np.asarray(classes)
    return array if array.dtype == bool else array.astype(np.intp)


def f1_of_counts(hits: ArrayLike, claims: ArrayLike) -> Floats:
    """Return F1 = 2 TP / (predicted + actual) elementwise, with 0/0 = 0. ``hits`` is TP, ``claims`` the denominator."""
    hits, claims = np.asarray(hits, dtype=np.float64), np.asarray(claims, dtype=np.float64)
    return 2 * hits / np.maximum(claims, 1)


def f1_per_class(predicted: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the F1 (k,) of each class, 0 if it is neither predicted nor present."""
    guess, truth = _pair(predicted, labels)
    return f1_of_counts((guess & truth).sum(axis=0), guess.sum(axis=0) + truth.sum(axis=0))


def macro_f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean F1 of all k classes, even those without positives (sklearn `average="macro"`)."""
    return float(f1_per_class(predicted, labels).mean())


def sample_f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean F1 of all rows (sklearn `average="samples"`, 0/0 = 0)."""
    guess, truth = _pair(predicted, labels)
    return float(f1_of_counts((guess & truth).sum(axis=1), guess.sum(axis=1) + truth.sum(axis=1)).mean())


def all_positive_floor(labels: ArrayLike) -> float:
    """Return the macro F1 of predicting every label on every row. A system that has learnt anything beats it."""
    truth = as_labels(labels)
    return macro_f1(np.ones_like(truth), truth)


def _pair(predicted: ArrayLike, labels: ArrayLike) -> tuple[Booleans, Booleans]:
    guess, truth = as_labels(predicted, "predictions"), as_labels(labels)
    if guess.shape != truth.shape:
        raise ValueError(f"predictions have shape {guess.shape}, the labels have {truth.shape}")
    return guess, truth
