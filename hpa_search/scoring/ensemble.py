"""Ensembles: which members to average and with what weights, chosen so that poor members do no harm."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from hpa_search.scoring.calibration import as_probabilities
from hpa_search.scoring.metrics import Floats, Rows, as_labels, as_scores, class_indices, positive_rows, precision_of_columns

# A rise in macro AP below this is rounding of the sums, not a gain.
_LEAST_GAIN = 1e-7


def member_probabilities(member_logits: ArrayLike) -> NDArray[np.floating]:
    """Return sigmoid of ``member_logits`` (m, n, k) of any float type, in float32 (float64 for float64); ValueError for NaN."""
    return expit(as_scores(member_logits, name="logits"))


def greedy(
    member_probabilities: NDArray[np.floating],
    labels: ArrayLike,
    classes: ArrayLike | None = None,
    rounds: int = 20,
    start: int = 1,
) -> Floats:
    """Return weights (m,) that sum to 1, by greedy selection with replacement on macro AP (Caruana et al. 2004).

    Starts from the best single member or, with ``start`` > 1, from the best of the averages of the 1..``start``
    best. Each round adds the member (perhaps once more) that raises the macro AP of the average most; of equal members
    the first. It stops at ``rounds`` members or when none raises it, so a poor member ends with weight 0.
    ``classes``: mask or indices, None for all with positives. Members (m, n, k) in float32 take half the time of float64.
    Raises ValueError for NaN, values outside [0, 1], unequal shapes, a class without positives, ``start`` or ``rounds`` < 1.
    """
    members, truth = _checked(member_probabilities), as_labels(labels)
    if members.shape[1:] != truth.shape:
        raise ValueError(f"members have shape {members.shape[1:]}, the labels have {truth.shape}")
    if start < 1 or rounds < start:
        raise ValueError(f"start must be at least 1 and rounds at least start, got start {start}, rounds {rounds}")
    chosen = class_indices(classes, truth)
    columns = np.ascontiguousarray(members[:, :, chosen].transpose(0, 2, 1))
    return _select(columns, positive_rows(truth[:, chosen]), rounds, min(start, len(columns)))


def _select(columns: NDArray[np.floating], positives: Sequence[Rows], rounds: int, start: int) -> Floats:
    """Run the selection on members as ``columns`` (m, k, n)."""
    counts, total, score = _first(columns, positives, start)
    while counts.sum() < rounds:
        # Ranks are all that AP reads, so sums do for averages.
        scores = np.array([_macro_ap(total + member, positives) for member in columns])
        best = int(scores.argmax())
        if scores[best] <= score + _LEAST_GAIN:
            break
        counts[best] += 1
        total += columns[best]
        score = scores[best]
    return counts / counts.sum()


def _first(
    columns: NDArray[np.floating], positives: Sequence[Rows], start: int
) -> tuple[NDArray[np.int64], NDArray[np.floating], float]:
    """Return counts, sum and macro AP of the best average among the 1..``start`` best single members."""
    singles = np.array([_macro_ap(member, positives) for member in columns])
    best_first = np.argsort(-singles, kind="stable")[:start]
    sums = np.cumsum(columns[best_first], axis=0)
    scores = [_macro_ap(total, positives) for total in sums]
    taken = int(np.argmax(scores))
    counts = np.zeros(len(columns), dtype=np.int64)
    counts[best_first[: taken + 1]] = 1
    return counts, sums[taken].copy(), scores[taken]


def _macro_ap(columns: NDArray[np.floating], positives: Sequence[Rows]) -> float:
    return float(precision_of_columns(columns, positives).mean())


def blend(member_probabilities: NDArray[np.floating], weights: ArrayLike, covers: ArrayLike | None = None) -> Floats:
    """Return the weighted mean (n, k) of ``member_probabilities`` (m, n, k); members of weight 0 are not read.

    Weights (m,) are brought to sum 1. ``covers`` (m, k) bool says which classes a member was trained for (None: all): the
    mean of a class is over the members that cover it, and 0 where none does.
    Raises ValueError unless weights are finite, not negative, one a member, and not all 0.
    """
    share = np.asarray(weights, dtype=np.float64)
    if share.shape != (len(member_probabilities),) or not np.isfinite(share).all() or share.min() < 0 or share.sum() <= 0:
        raise ValueError(f"weights {share} do not fit {len(member_probabilities)} members: not negative, one each, not all 0")
    used = np.flatnonzero(share)
    members = _checked(member_probabilities[used])
    shares = share[used, None] / share.sum() * np.ones(members.shape[2])
    if covers is not None:
        shares *= np.asarray(covers, dtype=bool)[used]
        shares /= np.where(shares.any(axis=0), shares.sum(axis=0), 1)
    # One member at a time: a product of all at once would first copy the pool to float64.
    return sum(part * member.astype(np.float64) for part, member in zip(shares, members, strict=True))


def _checked(members: NDArray[np.floating]) -> NDArray[np.floating]:
    if members.ndim != 3 or not members.size:
        raise ValueError(f"members must be members x rows x classes, got shape {members.shape}")
    return as_probabilities(members)
