"""Comparing settings by the predictions of trials on the same rows: macro AP, paired over redrawn rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from hpa_search.scoring.intervals import Interval, group_ids, redraws
from hpa_search.scoring.metrics import Floats, as_labels, as_scores, class_indices


@dataclass(frozen=True)
class Compared:
    """A setting's macro AP (mean over its trials), and what it lacks of the best setting's; None for the best itself.

    ``spread`` is the standard deviation over the setting's trials, NaN for one: the work of their seeds where they differ in
    nothing else. ``to_best`` holds the chance of the rows, ``to_best_with_trials`` that of the trials too; None without
    trials to see it by.
    """

    name: str
    trials: int
    macro_ap: Interval
    spread: float
    to_best: Interval | None
    to_best_with_trials: Interval | None


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

    Every redraw scores all trials on the same rows, whole ``groups`` (n,) at a time. An interval over rows says how other
    rows would judge these very trials; seeds often matter more, so the interval with trials adds the variance of a mean of
    so many, from the spread within settings, taken as equal for all (Student's t, as in an analysis of variance).
    Raises ValueError for NaN or unequal shapes.
    """
    truth = as_labels(labels)
    scores = as_scores(logits, (len(settings), *truth.shape))
    chosen = class_indices(classes, truth)
    measured = bootstrap_macro_ap(scores[:, :, chosen], truth[:, chosen], groups, samples, seed)
    names = list(dict.fromkeys(settings))
    member = np.array([[setting == name for setting in settings] for name in names], dtype=float)
    mean = (member / member.sum(axis=1, keepdims=True)) @ measured
    order = np.argsort(-mean[:, 0], kind="stable")
    pooled = _Trials.of([measured[row > 0, 0] for row in member])
    return [_compared(names[i], measured[member[i] > 0], mean[i], mean[order[0]], i == order[0], pooled, level) for i in order]


@dataclass(frozen=True)
class _Trials:
    """The variance between the trials of one setting, pooled over settings, and its degrees of freedom."""

    variance: float
    freedom: int
    trials_of_best: int

    @classmethod
    def of(cls, groups: Sequence[Floats]) -> "_Trials":
        """Pool the settings' trials ``groups``, each (trials,)."""
        freedom = sum(len(group) - 1 for group in groups)
        squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        best = max(groups, key=lambda group: float(group.mean()))
        return cls(squares / max(freedom, 1), freedom, len(best))


def _compared(name: str, trials: Floats, mean: Floats, best: Floats, is_best: bool, pooled: _Trials, level: float) -> Compared:
    """Return the row of a setting whose ``trials`` are (t, 1 + samples), their mean and the best setting's (1 + samples,)."""
    with_trials = None
    if not is_best and pooled.freedom:
        of_means = pooled.variance * (1 / len(trials) + 1 / pooled.trials_of_best)
        half = float(student.ppf((1 + level) / 2, pooled.freedom) * np.sqrt((mean - best)[1:].var(ddof=1) + of_means))
        value = float(mean[0] - best[0])
        with_trials = Interval(value, value - half, value + half, level)
    return Compared(
        name,
        len(trials),
        Interval.around(float(mean[0]), mean[1:], level),
        float(trials[:, 0].std(ddof=1)) if len(trials) > 1 else float("nan"),
        None if is_best else Interval.around(float(mean[0] - best[0]), (mean - best)[1:], level),
        with_trials,
    )


def bootstrap_macro_ap(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], groups: ArrayLike | None, samples: int, seed: int
) -> Floats:
    """Return the macro AP of each of t predictions on all rows and on redraws of them, shape (t, 1 + samples).

    ``scores`` are (t, n, k). A redraw averages the classes of which it has positives; a row drawn twice counts twice. One
    without any positive says nothing and is left out.
    """
    ids = np.arange(len(labels)) if groups is None else group_ids(groups, len(labels))
    drawn = np.concatenate([counts[:, ids] for counts in redraws(int(ids.max()) + 1, samples, seed)])
    telling = drawn[:, labels.any(axis=1)].any(axis=1)
    weights = np.concatenate([np.ones((1, len(labels)), dtype=np.float32), drawn[telling]])
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
