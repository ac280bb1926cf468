"""Watchers: whoever follows a search, such as the terminal and TensorBoard."""

from collections.abc import Callable
from typing import Protocol

from hpa_search.ledger.ledger import TrialRecord
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.space.search import Search


class Watcher(Protocol):
    """Follows a search. Each event is in the ledger before a watcher gets it."""

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """A driver starts with the ``trials`` of earlier drivers; ``spent_seconds`` returns the seconds spent of the budget."""

    def extended(self, search: Search) -> None:
        """The search has another budget."""

    def started(self, leg: Leg) -> None:
        """A leg is about to run."""

    def reported(self, number: int, report: EpochReport) -> None:
        """A trial has finished an epoch."""

    def ended(self, number: int, state: str, why: str) -> None:
        """A trial is `paused`, `complete`, `pruned` or `failed`."""


class Watchers:
    """Several watchers as one. Each gets every event in turn."""

    def __init__(self, watchers: tuple[Watcher, ...]) -> None:
        self._watchers = watchers

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Pass the event to each watcher."""
        for watcher in self._watchers:
            watcher.resumed(trials, spent_seconds)

    def extended(self, search: Search) -> None:
        """Pass the event to each watcher."""
        for watcher in self._watchers:
            watcher.extended(search)

    def started(self, leg: Leg) -> None:
        """Pass the event to each watcher."""
        for watcher in self._watchers:
            watcher.started(leg)

    def reported(self, number: int, report: EpochReport) -> None:
        """Pass the event to each watcher."""
        for watcher in self._watchers:
            watcher.reported(number, report)

    def ended(self, number: int, state: str, why: str) -> None:
        """Pass the event to each watcher."""
        for watcher in self._watchers:
            watcher.ended(number, state, why)
