"""The final stage as one choice: members, weights, calibration and thresholds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.calibration import Floats, Platt
from hpa_search.scoring.ensemble import BAGS, NOBODY, SELECTIONS, best_first, clipped, combine, limited, standard
from hpa_search.scoring.metrics import Indices, as_labels
from hpa_search.scoring.rules import DEFAULT, fit_rule
from hpa_search.scoring.thresholds import Booleans, DecisionRule

POOL = 50
"""Only so many members, the best single ones, enter the selection: its time grows with their number."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A chosen ensemble: the weights (m,) of the members, and the decision rule for their mean.

    Members of weight 0 take no part. ``maps`` (m,) bring their logits to one scale; see `ensemble.standard`.
    ``covers`` (m, k) bool marks the classes that each member was trained for; None marks all.
    """

    weights: Floats
    maps: tuple[Platt, ...]
    rule: DecisionRule
    covers: Booleans | None = None

    @property
    def covered(self) -> Booleans | None:
        """A mask (k,) of the classes that a member with a weight covers, None for all."""
        return None if self.covers is None else np.asarray(self.covers[self.weights > 0].any(axis=0))

    def __call__(self, member_logits: NDArray[np.floating]) -> Booleans:
        """Return the labels (n, k) of rows from the members' logits (m, n, k)."""
        return self.rule.predict(self.logits(member_logits)).labels

    def logits(self, member_logits: NDArray[np.floating]) -> Floats:
        """Return the ensemble's logits (n, k) from the members' (m, n, k). The rule calibrates them."""
        return combine(member_logits, self.weights, self.maps, self.covers)


@dataclass(frozen=True, eq=False)
class Standardised:
    """The p best members on one scale.

    ``entries`` (p,) are their indices, ``maps`` (p,) their maps, ``scores`` (p, n, k) their scores, float32.
    """

    entries: Indices
    maps: tuple[Platt, ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FinalChoice:
    """How to choose an ensemble. Calling it makes the choice.

    - ``ensemble``, ``thresholds``: the names of a selection (SELECTIONS) and a threshold rule (RULES).
    - ``classes``: the classes whose macro AP decides. A class without positives, as in a fold, is left out.
    - ``trained``: the classes with positives in training, None for all.
    - ``covers`` (m, k) bool: the classes that each member was trained for, None for all.
    - ``rounds``, ``bags``: those of greedy selection.
    - ``max_members``: how many members stay.
    - ``pool``: how many of the best members enter the selection. The best comes first, so ties go to it.
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
        """Return the ensemble chosen on these rows. ``member_logits`` are (m, n, k), ``labels`` (n, k)."""
        return self.choose(self.standardised(member_logits, labels), member_logits, labels)

    def standardised(self, member_logits: NDArray[np.floating], labels: ArrayLike) -> Standardised:
        """Return the best members on one scale, the input of every selection."""
        truth = as_labels(labels)
        # AP reads the order of rows within a class. Calibration keeps this order, so the best are known before it.
        best = best_first(self._masked(clipped(member_logits), None), truth, self._scored(truth))[: self.pool]
        maps = [standard(member_logits[i], truth, None if self.covers is None else self.covers[i]) for i in best]
        scores = [platt.logits(member_logits[i]).astype(np.float32) for i, platt in zip(best, maps, strict=True)]
        return Standardised(best, tuple(maps), self._masked(np.stack(scores), best))

    def choose(self, given: Standardised, member_logits: NDArray[np.floating], labels: ArrayLike) -> Ensemble:
        """Return the ensemble chosen among ``given``. The other arguments are those of `standardised`."""
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
        """Return the decision rule for ``logits`` (n, k) of a network or an ensemble.

        ``labels`` are (n, k). ``covered`` (k,) bool marks the classes in its training; None marks all. Other classes are never
        given.
        """
        truth = as_labels(labels)
        known = np.ones(truth.shape[1], dtype=bool) if covered is None else np.asarray(covered, dtype=bool)
        trained = known if self.trained is None else known & np.isin(np.arange(len(known)), self.trained)
        # A class that is not covered has no positives here or in training, so the rule treats it as unseen.
        fill = bool(known.all())
        return fit_rule(np.where(known, logits, NOBODY), truth & known, name=self.thresholds, trained=trained, fill=fill)

    def _scored(self, labels: Booleans) -> list[int] | None:
        """Return the classes whose macro AP decides, None for all with positives."""
        wanted = range(labels.shape[1]) if self.classes is None else self.classes
        return [c for c in wanted if labels[:, c].any()] or None

    def _masked(self, scores: NDArray[np.floating], entries: Indices | None) -> NDArray[np.floating]:
        """Set scores to 0 where a member does not cover the class: equal scores leave ranks to the others."""
        if self.covers is None:
            return scores
        return scores * (self.covers if entries is None else self.covers[entries])[:, None, :]
