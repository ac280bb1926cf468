"""The final stage as one choice: select an ensemble, calibrate it, fit thresholds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.calibration import Floats, logit
from hpa_search.scoring.ensemble import blend, greedy, member_probabilities
from hpa_search.scoring.metrics import as_labels
from hpa_search.scoring.thresholds import Booleans, DecisionRule, fit_rule

LARGEST = 16.0
"""The log odds of what was never trained, below zero; those of a probability of 1e-7."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What was chosen: a weight (m,) for each member, those of weight 0 taking no part, and the rule for their mean."""

    weights: Floats
    rule: DecisionRule
    covers: Booleans | None = None

    def __call__(self, member_logits: NDArray[np.floating]) -> Booleans:
        """Return the labels (n, k) for the members' logits (m, n, k)."""
        return self.rule.predict(ensemble_logits(member_logits, self.weights, self.covers)).labels


def ensemble_logits(member_logits: NDArray[np.floating], weights: ArrayLike, covers: ArrayLike | None = None) -> Floats:
    """Return the log odds (n, k) of the weighted mean of the members' probabilities; logits are (m, n, k).

    ``covers`` (m, k) says which classes each member was trained for; see `blend`.
    Members are averaged as they are: calibrating each one first cost 0.01 macro F1 on real predictions.
    """
    used = np.flatnonzero(weights)
    covered = None if covers is None else np.asarray(covers)[used]
    return logit(blend(member_probabilities(member_logits[used]), np.asarray(weights)[used], covered))


@dataclass(frozen=True, eq=False)
class FinalChoice:
    """How to choose: macro AP over ``classes``, ``rounds`` of greedy selection, at most ``max_members`` members.

    Classes without a positive among the rows at hand (a fold may have none) are left out of the selection. ``trained``
    are the classes that the members have seen positives of, None for all; ``covers`` (m, k) bool those that each member
    was trained for, None where all were for all.
    """

    classes: tuple[int, ...]
    trained: tuple[int, ...] | None = None
    rounds: int = 20
    max_members: int = 5
    covers: Booleans | None = None

    def __call__(self, member_logits: NDArray[np.floating], labels: ArrayLike) -> Ensemble:
        """Choose on ``member_logits`` (m, n, k) and ``labels`` (n, k)."""
        truth = as_labels(labels)
        members = member_probabilities(member_logits.astype(np.float32))
        if self.covers is not None:
            # All rows alike: a member neither helps nor harms the ranks of a class that it was not trained for.
            members *= self.covers[:, None, :]
        weights = self._weights(members, truth)
        covered = None if self.covers is None else self.covers[weights > 0].any(axis=0)
        rule = self.rule(ensemble_logits(member_logits, weights, self.covers), truth, covered)
        return Ensemble(weights, rule, self.covers)

    def rule(self, logits: ArrayLike, labels: ArrayLike, covered: ArrayLike | None = None) -> DecisionRule:
        """Fit the rule for ``logits`` (n, k) of one network or an ensemble that was trained for the classes ``covered`` (k,).

        A class that it was not trained for is never given.
        """
        truth = as_labels(labels)
        known = np.ones(truth.shape[1], dtype=bool) if covered is None else np.asarray(covered, dtype=bool)
        trained = known if self.trained is None else known & np.isin(np.arange(len(known)), self.trained)
        # Without a positive among the rows, and without one in training, the rule takes the class for unseen.
        return fit_rule(np.where(known, logits, -LARGEST), truth & known, trained=trained, fill=bool(known.all()))

    def _weights(self, members: NDArray[np.floating], labels: NDArray[np.bool_]) -> Floats:
        scored = [c for c in self.classes if labels[:, c].any()] or None
        weights = greedy(members, labels, scored, self.rounds)
        kept = np.sort(np.argsort(-weights, kind="stable")[: self.max_members])
        if np.count_nonzero(weights) > len(kept):
            weights = np.zeros_like(weights)
            weights[kept] = greedy(members[kept], labels, scored, self.rounds)
        return weights
