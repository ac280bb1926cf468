"""Comparing settings by the predictions of trials on the same rows: macro AP, paired over redrawn rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from hpa_search.scoring.estimate import Interval, group_ids, redraws
from hpa_search.scoring.metrics import Floats, as_labels, as_scores, class_indices


@dataclass(frozen=True)
class Compared:
    """A setting's macro AP (mean over its trials), and what it lacks of the best setting's; None for the best itself.

    ``spread`` is the standard deviation over the setting's trials, which differ in their seed alone; NaN for one.
    """

    name: str
    trials: int
    macro_ap: Interval
    spread: float
    to_best: Interval | None


def compare_settings(
    logits: NDArray[np.floating],
    labels: ArrayLike,
    settings: Sequence[str],
    *,
    classes: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    level: float = 0.90,
    samples: int = 1000,
    seed: int = 0,
) -> list[Compared]:
    """Compare the ``settings`` (t,) of trials by their ``logits`` (t, n, k) on rows with ``labels`` (n, k), best first.

    Every redraw scores all trials on the same rows, whole ``groups`` (n,) at a time. The intervals hold the chance of the
    rows and of the seeds at hand, not that of other seeds: see the spread. Raises ValueError for NaN or unequal shapes.
    """
    truth = as_labels(labels)
    scores = as_scores(logits, (len(settings), *truth.shape))
    chosen = class_indices(classes, truth)
    measured = bootstrap_macro_ap(scores[:, :, chosen], truth[:, chosen], groups, samples, seed)
    names = list(dict.fromkeys(settings))
    member = np.array([[setting == name for setting in settings] for name in names], dtype=float)
    mean = (member / member.sum(axis=1, keepdims=True)) @ measured
    order = np.argsort(-mean[:, 0], kind="stable")
    best = mean[order[0]]
    return [
        Compared(
            names[i],
            int(member[i].sum()),
            _interval(mean[i], level),
            float(np.std(measured[member[i] > 0, 0], ddof=1)) if member[i].sum() > 1 else float("nan"),
            None if i == order[0] else _interval(mean[i] - best, level),
        )
        for i in order
    ]


def _interval(measured: Floats, level: float) -> Interval:
    """Return the first of ``measured`` (1 + samples,) with its normal interval, as wide as the redraws spread.

    Not their percentiles: a positive drawn twice is two rows of one score, which lifts the AP of a redraw above that of the
    rows themselves, most for rare classes; percentiles would leave the value out. The spread is not moved by that.
    """
    value, half = float(measured[0]), float(norm.ppf((1 + level) / 2) * measured[1:].std(ddof=1))
    return Interval(value, value - half, value + half, level)


def bootstrap_macro_ap(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], groups: ArrayLike | None, samples: int, seed: int
) -> Floats:
    """Return the macro AP of each of t predictions on all rows and on redraws of them, shape (t, 1 + samples).

    ``scores`` are (t, n, k). A redraw averages the classes of which it has positives; a row drawn twice counts twice.
    """
    ids = np.arange(len(labels)) if groups is None else group_ids(groups, len(labels))
    drawn = np.concatenate([counts[:, ids] for counts in redraws(int(ids.max()) + 1, samples, seed)])
    weights = np.concatenate([np.ones((1, len(labels)), dtype=np.float32), drawn])
    result = np.empty((len(scores), len(weights)))
    for prediction, target in zip(scores, result, strict=True):
        columns = [_weighted_ap(prediction[:, c], labels[:, c], weights) for c in range(labels.shape[1])]
        target[:] = np.nanmean(columns, axis=0)
    return result


def _weighted_ap(scores: NDArray[np.floating], labels: NDArray[np.bool_], weights: NDArray[np.float32]) -> Floats:
    """Return the AP (w,) of ``scores`` (n,) with rows counted by each row of ``weights`` (w, n); NaN without positives."""
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], labels[order]
    # The cut that takes a row takes all rows of its score.
    last = np.searchsorted(-ranked, -ranked[hit], side="right") - 1
    claimed = np.cumsum(weights[:, order], axis=1, dtype=np.float64)[:, last]
    positive = weights[:, order][:, hit]
    right = np.cumsum(weights[:, order] * hit, axis=1, dtype=np.float64)[:, last]
    total = positive.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(claimed > 0, right / claimed, 0.0)
        return np.where(total > 0, (positive * precision).sum(axis=1) / total, np.nan)
