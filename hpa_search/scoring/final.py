"""The final stage as one choice: select an ensemble, calibrate it, fit thresholds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.calibration import LARGEST_LOGIT, Floats
from hpa_search.scoring.ensemble import BAGS, NOBODY, SELECTIONS, best_first, combine, limited, spreads
from hpa_search.scoring.estimate import Choose, Predict, Rows
from hpa_search.scoring.metrics import as_labels
from hpa_search.scoring.rules import DEFAULT, fit_rule
from hpa_search.scoring.thresholds import Booleans, DecisionRule

POOL = 50
"""Of more members than this, the best by themselves are chosen from: the time of a choice grows with their number."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What was chosen: a weight (m,) for each member, those of weight 0 taking no part, and the rule for their mean.

    ``scales`` (m,) are the units of the members' logits; see `ensemble.combine`.
    """

    weights: Floats
    scales: Floats
    rule: DecisionRule
    covers: Booleans | None = None

    @property
    def covered(self) -> Booleans | None:
        """The classes (k,) that a member taking part was trained for; None where all were for all."""
        return None if self.covers is None else np.asarray(self.covers[self.weights > 0].any(axis=0))

    def __call__(self, member_logits: NDArray[np.floating]) -> Booleans:
        """Return the labels (n, k) for the members' logits (m, n, k)."""
        return self.rule.predict(self.logits(member_logits)).labels

    def logits(self, member_logits: NDArray[np.floating]) -> Floats:
        """Return the logits (n, k) of the ensemble, which the rule calibrates, for the members' (m, n, k)."""
        return combine(member_logits, self.weights, self.scales, self.covers)


@dataclass(frozen=True, eq=False)
class FinalChoice:
    """How to choose: `ensemble` and `thresholds` by name (SELECTIONS, RULES), macro AP over ``classes``.

    Greedy selection takes ``rounds`` in each of ``bags``; at most ``max_members`` members stay. Only the ``pool`` best members
    by macro AP are looked at, the best first, so that of equal ones it stays. Classes without a positive
    among the rows at hand (a fold may have none) are left out of the selection. ``trained`` are the classes that the members
    have seen positives of, None for all; ``covers`` (m, k) bool those that each member was trained for, None where all
    were for all.
    """

    classes: tuple[int, ...] | None = None
    trained: tuple[int, ...] | None = None
    ensemble: str = "greedy"
    thresholds: str = DEFAULT
    rounds: int = 20
    bags: int = BAGS
    max_members: int = 5
    pool: int = POOL
    covers: Booleans | None = None

    def __call__(self, member_logits: NDArray[np.floating], labels: ArrayLike) -> Ensemble:
        """Choose on ``member_logits`` (m, n, k), as the members will give them in use, and ``labels`` (n, k)."""
        truth = as_labels(labels)
        scales = spreads(member_logits, self.covers)
        weights = self.weights(member_logits, truth, scales)
        covered = None if self.covers is None else self.covers[weights > 0].any(axis=0)
        logits = combine(member_logits, weights, scales, self.covers)
        return Ensemble(weights, scales, self.rule(logits, truth, covered), self.covers)

    def weights(self, member_logits: NDArray[np.floating], labels: ArrayLike, scales: ArrayLike) -> Floats:
        """Return the weights (m,) of the members, which sum to 1."""
        truth = as_labels(labels)
        members = np.empty(member_logits.shape, np.float32)
        np.clip(member_logits, -LARGEST_LOGIT, LARGEST_LOGIT, out=members, casting="same_kind")
        members /= np.asarray(scales, dtype=np.float32)[:, None, None]
        if self.covers is not None:
            # All rows alike: a member neither helps nor harms the ranks of a class that it was not trained for.
            members *= self.covers[:, None, :]
        wanted = range(truth.shape[1]) if self.classes is None else self.classes
        scored = [c for c in wanted if truth[:, c].any()] or None
        best = best_first(members, truth, scored)[: self.pool]
        found = np.zeros(len(members))
        found[best] = limited(SELECTIONS[self.ensemble](members[best], truth, scored, self.rounds, self.bags), self.max_members)
        return found

    def rule(self, logits: ArrayLike, labels: ArrayLike, covered: ArrayLike | None = None) -> DecisionRule:
        """Fit the rule for ``logits`` (n, k) of one network or an ensemble that was trained for the classes ``covered`` (k,).

        A class that it was not trained for is never given.
        """
        truth = as_labels(labels)
        known = np.ones(truth.shape[1], dtype=bool) if covered is None else np.asarray(covered, dtype=bool)
        trained = known if self.trained is None else known & np.isin(np.arange(len(known)), self.trained)
        # Without a positive among the rows, and without one in training, the rule takes the class for unseen.
        fill = bool(known.all())
        return fit_rule(np.where(known, logits, NOBODY), truth & known, name=self.thresholds, trained=trained, fill=fill)

    def on(self, member_logits: NDArray[np.floating], labels: ArrayLike) -> Choose:
        """Return the choice as a function of the rows to choose on, for `nested_estimate`."""
        truth = as_labels(labels)

        def choose(rows: Rows) -> Predict:
            ensemble = self(member_logits[:, rows], truth[rows])
            return lambda others: ensemble(member_logits[:, others])

        return choose
