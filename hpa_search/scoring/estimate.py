"""How far a measured macro F1 can be trusted: bootstrap intervals, and estimates free of what was chosen on the rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.metrics import Booleans, Floats, as_labels, f1_of_counts, macro_f1

Predictor = Callable[[NDArray[np.floating]], Booleans]
Choose = Callable[[NDArray[np.floating], Booleans], Predictor]

_BLOCK = 100


@dataclass(frozen=True)
class Interval:
    """A value measured on all rows and the interval that bootstrap redraws of them give it at ``level``."""

    value: float
    low: float
    high: float
    level: float

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}")
        if not (np.isfinite(self.value) and self.low <= self.high):
            raise ValueError(f"no interval: value {self.value}, low {self.low}, high {self.high}")


@dataclass(frozen=True, eq=False)
class NestedEstimate:
    """Macro F1 with everything chosen inside folds (``honest``) and on the scored rows themselves (``naive``).

    ``predicted`` (n, k) are the labels behind ``honest``: each row's by a choice that never saw it.
    """

    honest: float
    naive: float
    predicted: Booleans

    @property
    def optimism(self) -> float:
        """What the naive number promises too much: naive - honest."""
        return self.naive - self.honest


def bootstrap_interval(
    predicted: ArrayLike,
    labels: ArrayLike,
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return macro F1 of ``predicted`` (n, k) with its percentile bootstrap interval over ``samples`` redraws of the rows.

    With ``groups`` (n,) whole groups are drawn. Redraws that lose a rare class's few positives score it 0, so the
    interval leans low where a class has fewer than about 5 positives; it can even lie wholly below the value.
    Raises ValueError for unequal shapes, a level outside (0, 1) or fewer than 2 samples.
    """
    truth = as_labels(labels)
    counts = _counts(as_labels(predicted, "predictions"), truth)
    drawn = _bootstrap_f1([counts], groups, samples, seed)[0]
    return _interval(macro_f1(predicted, truth), drawn, level)


def paired_difference(
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    labels: ArrayLike,
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return macro F1 of a minus that of b, with its bootstrap interval; both are scored on the same redrawn rows.

    Pairing takes out the luck of the rows that both share. An interval that holds 0 shows no difference.
    """
    truth = as_labels(labels)
    both = [_counts(as_labels(guess, "predictions"), truth) for guess in (predicted_a, predicted_b)]
    drawn = _bootstrap_f1(both, groups, samples, seed)
    return _interval(macro_f1(predicted_a, truth) - macro_f1(predicted_b, truth), drawn[0] - drawn[1], level)


def _counts(predicted: Booleans, labels: Booleans) -> NDArray[np.float32]:
    """Return each row's contribution to [TP, predicted + actual] of every class, shape (n, 2k)."""
    if predicted.shape != labels.shape:
        raise ValueError(f"predictions have shape {predicted.shape}, the labels have {labels.shape}")
    # Sums of these stay far below 2^24, so float32 holds them exactly and its matrix product is fast.
    return np.concatenate([predicted & labels, predicted.astype(np.int8) + labels], axis=1, dtype=np.float32)


def _bootstrap_f1(counts: list[NDArray[np.float32]], groups: ArrayLike | None, samples: int, seed: int) -> Floats:
    """Return the macro F1 (len(counts), samples) of each prediction's ``counts`` over the same redraws."""
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    matrix = np.concatenate(counts, axis=1)
    if groups is not None:
        matrix = _group_sums(matrix, group_ids(groups, len(matrix)))
    sums = np.concatenate([weights @ matrix for weights in redraws(len(matrix), samples, seed)])
    hits, claims = sums.reshape(samples, len(counts), 2, -1).transpose(2, 1, 0, 3)
    return f1_of_counts(hits, claims).mean(axis=2)


def redraws(rows: int, samples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield how often each row is drawn in each redraw, in blocks (up to 100, rows): n draws with replacement."""
    rng = np.random.default_rng(seed)
    for done in range(0, samples, _BLOCK):
        block = min(_BLOCK, samples - done)
        drawn = rng.integers(0, rows, (block, rows)) + rows * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * rows).reshape(block, rows).astype(np.float32)


def _group_sums(matrix: NDArray[np.float32], ids: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the sums of the rows of ``matrix`` in each group, shape (groups, columns)."""
    order = np.argsort(ids, kind="stable")
    first = np.flatnonzero(np.diff(ids[order], prepend=-1))
    return np.add.reduceat(matrix[order], first, axis=0)


def _interval(value: float, drawn: Floats, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level)


def group_ids(groups: ArrayLike, rows: int) -> NDArray[np.intp]:
    """Return ``groups`` (any sortable values, (n,)) as ids 0..g-1; ValueError unless there is one a row."""
    names = np.asarray(groups)
    if names.shape != (rows,):
        raise ValueError(f"groups have shape {names.shape}; expected one a row, ({rows},)")
    return np.unique(names, return_inverse=True)[1]


def stratified_folds(labels: ArrayLike, folds: int = 5, seed: int = 0, groups: ArrayLike | None = None) -> NDArray[np.intp]:
    """Return the fold (n,) of each row, 0..folds-1, stratified by each row's rarest label; groups stay whole.

    Rows (or groups, by the union of their labels) are shuffled within their stratum and dealt out in turn: each
    stratum is spread to within one, and so are the fold sizes where there are no groups. Seeded.
    Raises ValueError for fewer than 2 folds or fewer rows or groups than folds.
    """
    truth = as_labels(labels)
    ids = np.arange(len(truth)) if groups is None else group_ids(groups, len(truth))
    units = int(ids.max()) + 1
    if not 2 <= folds <= units:
        raise ValueError(f"folds must lie between 2 and the {units} {'rows' if groups is None else 'groups'}, got {folds}")
    carried = truth if groups is None else _group_sums(truth.astype(np.float32), ids) > 0
    stratum = _rarest_label(carried)
    order = np.lexsort((np.random.default_rng(seed).random(units), stratum))
    fold = np.empty(units, dtype=np.intp)
    fold[order] = np.arange(units) % folds
    return fold[ids]


def _rarest_label(labels: Booleans) -> NDArray[np.intp]:
    """Return for each row the label it carries that fewest rows carry; k for a row without labels."""
    by_count = np.argsort(labels.sum(axis=0), kind="stable")
    sorted_labels = labels[:, by_count]
    return np.where(labels.any(axis=1), by_count[sorted_labels.argmax(axis=1)], labels.shape[1])


def nested_estimate(
    member_logits: NDArray[np.floating],
    labels: ArrayLike,
    *,
    choose: Choose,
    folds: int = 5,
    seed: int = 0,
    groups: ArrayLike | None = None,
    classes: ArrayLike | None = None,
) -> NestedEstimate:
    """Estimate the macro F1 of a whole final stage by repeating it inside folds.

    ``choose(member_logits (m, r, k), labels (r, k))`` does everything that is chosen on data (members, weights,
    calibration, thresholds) and returns a function from logits (m, q, k) to labels (q, k). It is called on all rows for the naive
    number and on the other folds for each fold; the counts of all folds are pooled before F1, because the mean of
    the folds' own macro F1s is biased low where a class has few positives.
    F1 is over ``classes`` (mask or indices; None: all). Raises ValueError for unequal shapes and what `stratified_folds`
    raises.
    """
    truth = as_labels(labels)
    if member_logits.ndim != 3 or member_logits.shape[1:] != truth.shape:
        raise ValueError(f"member logits have shape {member_logits.shape}, the labels have {truth.shape}")
    fold = stratified_folds(truth, folds, seed, groups)
    predicted = np.empty_like(truth)
    for held_out in range(folds):
        inside = fold == held_out
        predictor = choose(member_logits[:, ~inside], truth[~inside])
        predicted[inside] = predictor(member_logits[:, inside])
    naive = choose(member_logits, truth)(member_logits)
    scored = slice(None) if classes is None else np.asarray(classes)
    return NestedEstimate(
        macro_f1(predicted[:, scored], truth[:, scored]), macro_f1(naive[:, scored], truth[:, scored]), predicted
    )
