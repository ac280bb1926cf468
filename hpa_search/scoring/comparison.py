"""Comparison of settings by the macro AP of their trials, on the same redraws of the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from hpa_search.scoring.intervals import Interval, group_ids, redraws
from hpa_search.scoring.metrics import Floats, as_labels, as_scores, class_indices


@dataclass(frozen=True)
class Compared:
    """A setting's macro AP, the mean over its trials, and its difference to the best setting.

    ``spread`` is the standard deviation over the trials, NaN for a single trial. It is the effect of the seed if trials differ
    in nothing else. ``to_best`` covers chance in the rows. ``to_best_with_trials`` adds chance in the trials. Both are None for
    the best setting. The latter is None, too, if no setting has two trials.
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
    """Return the distinct ``settings``, best first, compared by the macro AP of their trials.

    ``settings`` (t,) names that of each trial. Trials have ``logits`` (t, n, k), rows ``labels`` (n, k). Every redraw scores all
    trials on the same rows, and draws ``groups`` (n,) whole.

    An interval over rows covers how other rows would judge these trials. Seeds often matter more. So the interval with trials
    adds the variance of a setting's mean. This variance comes from the spread within settings, taken as equal for all
    settings (Student's t, as in an analysis of variance).
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
    """The variance between a setting's trials, pooled over settings, with its degrees of freedom."""

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
    """Return the entry of a setting.

    ``trials`` are (t, 1 + samples): all rows, then redraws. ``mean`` and ``best``, the best setting's mean, are (1 + samples,).
    """
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
    """Return the macro AP (t, 1 + samples) of each prediction, on all rows and on redraws.

    ``scores`` are (t, n, k), ``labels`` (n, k). A redraw averages the classes with positives in it. A row drawn twice counts
    twice. Redraws without positives are left out, so fewer than ``samples`` may remain.
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
    """Return the AP (w,) of ``scores`` (n,) for each row of ``weights`` (w, n). It is NaN without positives."""
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], labels[order]
    # A cut that keeps a row keeps all rows with the same score.
    last = np.searchsorted(-ranked, -ranked[hit], side="right") - 1
    claimed = np.cumsum(weights[:, order], axis=1, dtype=np.float64)[:, last]
    positive = weights[:, order][:, hit]
    right = np.cumsum(weights[:, order] * hit, axis=1, dtype=np.float64)[:, last]
    total = positive.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(claimed > 0, right / claimed, 0.0)
        return np.where(total > 0, (positive * precision).sum(axis=1) / total, np.nan)
