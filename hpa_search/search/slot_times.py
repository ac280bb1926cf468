"""Follows a search and writes where its slots' time went."""

from collections.abc import Callable
from pathlib import Path

from hpa_search.ledger.ledger import TrialRecord
from hpa_search.ledger.times import append_times, parts_of
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.space.search import Search


class SlotTimes:
    """Writes the parts of each epoch's time to times.csv in the folder ``out``."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Do nothing: earlier drivers' rows are there."""

    def extended(self, search: Search) -> None:
        """Do nothing."""

    def started(self, leg: Leg) -> None:
        """Do nothing: an epoch tells its leg's start."""

    def reported(self, number: int, report: EpochReport) -> None:
        """Append a row."""
        append_times(self._out, number, report.epoch, parts_of(report.metrics))

    def ended(self, number: int, state: str, why: str) -> None:
        """Do nothing."""
