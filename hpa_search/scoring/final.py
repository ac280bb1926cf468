"""The final stage as one choice: select an ensemble, calibrate it, fit thresholds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.calibration import Floats, Platt
from hpa_search.scoring.ensemble import BAGS, NOBODY, SELECTIONS, best_first, clipped, combine, limited, standard
from hpa_search.scoring.estimate import Rows
from hpa_search.scoring.metrics import as_labels
from hpa_search.scoring.rules import DEFAULT, fit_rule
from hpa_search.scoring.thresholds import Booleans, DecisionRule

POOL = 50
"""Of more members than this, the best by themselves are chosen from: the time of a choice grows with their number."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What was chosen: a weight (m,) for each member, those of weight 0 taking no part, and the rule for their mean.

    ``maps`` (m,) bring the members' logits to one scale; see `ensemble.standard`.
    """

    weights: Floats
    maps: tuple[Platt, ...]
    rule: DecisionRule
    covers: Booleans | None = None

    @property
    def covered(self) -> Booleans | None:
        """The classes (k,) that a member with a weight was trained for, None where all were for all."""
        return None if self.covers is None else np.asarray(self.covers[self.weights > 0].any(axis=0))

    def __call__(self, member_logits: NDArray[np.floating]) -> Booleans:
        """Return the labels (n, k) for the members' logits (m, n, k)."""
        return self.rule.predict(self.logits(member_logits)).labels

    def logits(self, member_logits: NDArray[np.floating]) -> Floats:
        """Return the logits (n, k) of the ensemble, which the rule calibrates, for the members' (m, n, k)."""
        return combine(member_logits, self.weights, self.maps, self.covers)


@dataclass(frozen=True, eq=False)
class Standardised:
    """The best members, by their places ``entries`` (p,), with their maps and scores, float32 (p, n, k), of one scale."""

    entries: Rows
    maps: tuple[Platt, ...]
    scores: NDArray[np.float32]


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
        return self.choose(self.standardised(member_logits, labels), member_logits, labels)

    def standardised(self, member_logits: NDArray[np.floating], labels: ArrayLike) -> Standardised:
        """Return the best members, brought to one scale: what every selection begins with."""
        truth = as_labels(labels)
        # Calibration keeps the order of rows within a class, all that AP reads, so the best are known before.
        best = best_first(self._masked(clipped(member_logits), None), truth, self._scored(truth))[: self.pool]
        maps = [standard(member_logits[i], truth, None if self.covers is None else self.covers[i]) for i in best]
        scores = [platt.logits(member_logits[i]).astype(np.float32) for i, platt in zip(best, maps, strict=True)]
        return Standardised(best, tuple(maps), self._masked(np.stack(scores), best))

    def choose(self, given: Standardised, member_logits: NDArray[np.floating], labels: ArrayLike) -> Ensemble:
        """Choose among the members ``given``, which were made of ``member_logits`` (m, n, k) and ``labels`` (n, k)."""
        truth, (members, _, classes) = as_labels(labels), member_logits.shape
        found = SELECTIONS[self.ensemble](given.scores, truth, self._scored(truth), self.rounds, self.bags)
        weights, maps = np.zeros(members), [Platt(np.ones(classes), np.zeros(classes))] * members
        weights[given.entries] = limited(found, self.max_members)
        for entry, platt in zip(given.entries, given.maps, strict=True):
            maps[entry] = platt
        covered = None if self.covers is None else self.covers[weights > 0].any(axis=0)
        logits = combine(member_logits, weights, maps, self.covers)
        return Ensemble(weights, tuple(maps), self.rule(logits, truth, covered), self.covers)

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

    def _scored(self, labels: Booleans) -> list[int] | None:
        """Return the classes that members are chosen by."""
        wanted = range(labels.shape[1]) if self.classes is None else self.classes
        return [c for c in wanted if labels[:, c].any()] or None

    def _masked(self, scores: NDArray[np.floating], entries: Rows | None) -> NDArray[np.floating]:
        """Give all rows one score in the classes that a member was not trained for: there it neither helps nor harms the ranks."""
        if self.covers is None:
            return scores
        return scores * (self.covers if entries is None else self.covers[entries])[:, None, :]
