"""The calibration, the rule and the weights of an ensemble, as files hold them.

`bundle.json` and `ensemble.json` share these records. A record holds numbers, and its property is the function of them.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from pydantic import Field, model_validator

from hpa_search.config import Record
from hpa_search.labels import NUM_LABELS
from hpa_search.rounding import sum_fault
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.final import Ensemble
from hpa_search.scoring.metrics import Booleans
from hpa_search.scoring.thresholds import DecisionRule

_NUMBERS = f"a list of {NUM_LABELS} numbers"


class Calibration(Record):
    """The slope and the offset of each label's logit, 28 of each. `platt` is their map."""

    slope: tuple[float, ...] = Field(description=_NUMBERS)
    offset: tuple[float, ...] = Field(description=_NUMBERS)

    @model_validator(mode="after")
    def _check(self) -> "Calibration":
        if (slopes := self.platt.slope.size) != NUM_LABELS:
            raise ValueError(f"{slopes} slopes; expected {NUM_LABELS}")
        return self

    @classmethod
    def of(cls, platt: Platt) -> "Calibration":
        """Return the record of ``platt``, without loss."""
        return cls(slope=tuple(platt.slope.tolist()), offset=tuple(platt.offset.tolist()))

    @property
    def platt(self) -> Platt:
        """The map. A slope that misses 0 by rounding is 0."""
        return Platt(np.array(self.slope), np.array(self.offset))


class Rule(Record):
    """The calibration of an ensemble's mean logit, and the threshold of each label.

    ``fill`` gives a row below all thresholds its likeliest label. `decision` is the rule; see `thresholds.DecisionRule`.
    """

    platt: Calibration
    thresholds: tuple[float, ...] = Field(description=_NUMBERS)
    fill: bool

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        _ = self.decision  # raises ValueError for thresholds that are too many, too few, or outside 0 to 1
        return self

    @classmethod
    def of(cls, rule: DecisionRule) -> "Rule":
        """Return the record of ``rule``, without loss."""
        return cls(platt=Calibration.of(rule.platt), thresholds=tuple(rule.thresholds.tolist()), fill=rule.fill)

    @property
    def decision(self) -> DecisionRule:
        """The rule. A threshold that misses 0 or 1 by rounding is 0 or 1."""
        return DecisionRule(self.platt.platt, np.array(self.thresholds), self.fill)


class Weighted(Protocol):
    """A record with the weight of a member and the map of its logits."""

    @property
    def weight(self) -> float:
        """The member's share of the mean."""

    @property
    def map(self) -> Calibration:
        """The map that brings the member's logits to the scale of the others."""


def combined(members: Sequence[Weighted], rule: Rule, covers: Booleans | None = None) -> Ensemble:
    """Return the ensemble of ``members`` under ``rule``.

    ``covers`` (m, 28) are the labels that each member was trained for, None for all.
    """
    weights = np.array([member.weight for member in members])
    return Ensemble(weights, tuple(member.map.platt for member in members), rule.decision, covers)


def check_weights(name: str, members: Iterable[Weighted]) -> None:
    """Raise ValueError, beginning with ``name``, unless the weights of ``members`` add up to 1."""
    if total := sum_fault(member.weight for member in members):
        raise ValueError(f"{name}: the weights do not add up to 1, but to {total}")
