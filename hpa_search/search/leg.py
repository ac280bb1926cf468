"""The records that pass from the agenda to a worker and back: a leg, its reports, and its end.

A trial is trained in legs. A leg brings a trial from its last epoch to the next epoch at which the agenda decides about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leg:
    """Train trial ``number`` to ``target`` epochs; the ledger has the first ``reported`` of them.

    ``id`` counts the legs of one driver, from 1. Two legs of one trial never run side by side, so the leg with the larger
    id replaces the other. ``micro_batch`` is the number of images that memory is known to hold at a time, None if memory
    has not run out.
    """

    id: int
    number: int
    parameters: Mapping[str, Any]
    reported: int
    target: int
    micro_batch: int | None = None


@dataclass(frozen=True)
class EpochReport:
    """The metrics of one epoch, counted from 1, and the objective among them."""

    epoch: int
    objective: float
    metrics: Mapping[str, Any]

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> "EpochReport":
        """Return the report of a row of metrics, which holds `epoch` and `objective`."""
        return cls(int(metrics["epoch"]), float(metrics["objective"]), metrics)


@dataclass(frozen=True)
class Failed:
    """The trial cannot be trained further: ``why`` in one line, ``details`` with the traceback."""

    why: str
    details: str


@dataclass(frozen=True)
class Halted:
    """No trial can be trained further, for a reason outside the trials, such as a full disk."""

    why: str


@dataclass(frozen=True)
class Released:
    """The leg has ended from outside; the trial resumes later at its last epoch."""


LegEnd = Failed | Halted | Released
"""The end of a leg short of its target. A leg that reaches its target ends with the report of that epoch."""
LegEvent = EpochReport | LegEnd
