"""Intervals of F1 scores from bootstrap redraws of the rows. Two predictions are compared on the same redraws."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm

from hpa_search.scoring.metrics import Booleans, Floats, as_labels, f1_of_counts, f1_per_class, macro_f1

_BLOCK = 100


@dataclass(frozen=True)
class Interval:
    """A value measured on all rows, and its bootstrap interval at ``level``."""

    value: float
    low: float
    high: float
    level: float

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}")
        if not (np.isfinite(self.value) and self.low <= self.high):
            raise ValueError(f"no interval: value {self.value}, low {self.low}, high {self.high}")

    @classmethod
    def around(cls, value: float, drawn: Floats, level: float, unseen: float = 0.0) -> "Interval":
        """Return the normal interval around ``value``. Its variance is that of ``drawn``, plus ``unseen``.

        The redraws' percentiles would not do, because redraws are biased. A redraw that loses a rare class's few positives
        scores its F1 0. A positive drawn twice raises the AP. So percentiles can exclude the value itself. The spread has no
        such bias. Raises ValueError for a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level}")
        half = float(norm.ppf((1 + level) / 2) * np.sqrt(np.var(drawn, ddof=1) + unseen))
        return cls(value, value - half, value + half, level)


def bootstrap_interval(
    predicted: ArrayLike,
    labels: ArrayLike,
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return the macro F1 of ``predicted`` (n, k), with its interval from bootstrap redraws.

    With ``groups`` (n,) whole groups are drawn. A class without positives has F1 0 in every redraw. On other rows it may have
    any F1. If this is uniform from 0 to 1, its mean square is 1/3. So each such class adds 1/3 / k^2 to the variance of the
    mean.
    Raises ValueError for unequal shapes, a level outside (0, 1) or fewer than 2 samples.
    """
    truth = as_labels(labels)
    counts = _counts(as_labels(predicted, "predictions"), truth)
    drawn = _bootstrap_f1([counts], groups, samples, seed)[0]
    absent = int((~truth.any(axis=0)).sum())
    return Interval.around(macro_f1(predicted, truth), drawn, level, unseen=absent / 3 / truth.shape[1] ** 2)


def paired_difference(
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    labels: ArrayLike,
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return the macro F1 of a minus that of b, with its interval from shared bootstrap redraws.

    Pairing removes the chance in the rows that both share. An interval with 0 in it shows no difference.
    """
    truth = as_labels(labels)
    both = [_counts(as_labels(guess, "predictions"), truth) for guess in (predicted_a, predicted_b)]
    drawn = _bootstrap_f1(both, groups, samples, seed)
    return Interval.around(macro_f1(predicted_a, truth) - macro_f1(predicted_b, truth), drawn[0] - drawn[1], level)


def f1_intervals(
    predicted: ArrayLike,
    labels: ArrayLike,
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> list[Interval]:
    """Return the F1 of each class with its interval, as `bootstrap_interval` does for their mean.

    A class without hits, or without misses, has the same F1 in all redraws; other rows would differ. Such a class gets Wilson's
    interval (1927) of J, the share of hits among the rows that are claimed or carry it. F1 = 2 J / (1 + J).
    """
    truth = as_labels(labels)
    guess = as_labels(predicted, "predictions")
    drawn = _redrawn_f1([_counts(guess, truth)], groups, samples, seed)[0]
    hits, either = (guess & truth).sum(axis=0), (guess | truth).sum(axis=0)
    return [
        Interval.around(float(f1), redrawn, level) if hit not in (0, any_) or not any_ else _wilson(int(hit), int(any_), level)
        for f1, redrawn, hit, any_ in zip(f1_per_class(guess, truth), drawn.T, hits, either, strict=True)
    ]


def _wilson(hits: int, rows: int, level: float) -> Interval:
    share = binomtest(hits, rows).proportion_ci(level, method="wilson")
    value, low, high = (2 * j / (1 + j) for j in (hits / rows, share.low, share.high))
    return Interval(value, low, high, level)


def _counts(predicted: Booleans, labels: Booleans) -> NDArray[np.float32]:
    """Return each row's contribution (n, 2k) to the counts [TP, predicted + actual] of every class."""
    if predicted.shape != labels.shape:
        raise ValueError(f"predictions have shape {predicted.shape}, the labels have {labels.shape}")
    # The sums stay far below 2^24: float32 holds them exactly, and its matrix product is fast.
    return np.concatenate([predicted & labels, predicted.astype(np.int8) + labels], axis=1, dtype=np.float32)


def _bootstrap_f1(counts: list[NDArray[np.float32]], groups: ArrayLike | None, samples: int, seed: int) -> Floats:
    """Return the macro F1 (len(counts), samples) of each prediction in the same redraws."""
    return _redrawn_f1(counts, groups, samples, seed).mean(axis=2)


def _redrawn_f1(counts: list[NDArray[np.float32]], groups: ArrayLike | None, samples: int, seed: int) -> Floats:
    """Return the F1 (len(counts), samples, k) of each class in the same redraws. `_counts` makes ``counts``."""
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    matrix = np.concatenate(counts, axis=1)
    if groups is not None:
        matrix = group_sums(matrix, group_ids(groups, len(matrix)))
    sums = np.concatenate([weights @ matrix for weights in redraws(len(matrix), samples, seed)])
    hits, claims = sums.reshape(samples, len(counts), 2, -1).transpose(2, 1, 0, 3)
    return f1_of_counts(hits, claims)


def redraws(rows: int, samples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield the counts of each row in redraws with replacement, in blocks (up to 100, rows)."""
    rng = np.random.default_rng(seed)
    for done in range(0, samples, _BLOCK):
        block = min(_BLOCK, samples - done)
        drawn = rng.integers(0, rows, (block, rows)) + rows * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * rows).reshape(block, rows).astype(np.float32)


def group_sums(matrix: NDArray[np.float32], ids: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the sums (groups, columns) of the rows of ``matrix`` in each group."""
    order = np.argsort(ids, kind="stable")
    first = np.flatnonzero(np.diff(ids[order], prepend=-1))
    return np.add.reduceat(matrix[order], first, axis=0)


def group_ids(groups: ArrayLike, rows: int) -> NDArray[np.intp]:
    """Return ``groups`` (n,), any sortable values, as ids 0..g-1. Raises ValueError unless there is one for each row."""
    names = np.asarray(groups)
    if names.shape != (rows,):
        raise ValueError(f"groups have shape {names.shape}; expected one a row, ({rows},)")
    return np.unique(names, return_inverse=True)[1]
