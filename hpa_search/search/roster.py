"""All trials of a search and where each of them is. No answer takes a walk over all trials.

A trial is in one of four places:

    live          its leg runs
    paused        it waits at a rung for its promotion
    interrupted   its leg ended before its target; it resumes
    ended         it is complete, pruned or failed
"""

from dataclasses import replace
from itertools import islice
from typing import Literal

from hpa_search.ledger.ledger import TrialRecord
from hpa_search.search.known import Known
from hpa_search.search.rungs import Rungs

MOST_KNOWN = 200
Where = Literal["live", "paused", "interrupted", "ended"]


class Roster:
    """Keeps the trials' records and places and the epochs that they cost, and keeps ``rungs`` in step with them."""

    def __init__(self, rungs: Rungs) -> None:
        self.rungs = rungs
        self.records: dict[int, TrialRecord] = {}
        self.live: set[int] = set()
        self.paused: set[int] = set()
        self.interrupted: set[int] = set()
        self.epochs = 0
        """The epochs done, and those that live and interrupted trials have yet to do."""
        self._where: dict[int, Where] = {}
        self._counted: dict[int, int] = {}

    def put(self, record: TrialRecord) -> None:
        """Take a new trial, or a trial's new record."""
        known = self.records.get(record.number)
        self.records[record.number] = record
        for epoch in record.reports.keys() - (known.reports.keys() if known else ()):
            self.rungs.report(record.number, epoch, record.reports[epoch])
        self.rungs.aim(record.number, record.target)
        self._move(record.number, "live" if record.number in self.live else self._at_rest(record.number))

    def update(self, number: int, **changes: object) -> None:
        """Change the given fields of a trial's record."""
        self.put(replace(self.records[number], **changes))  # type: ignore[arg-type]

    def begin(self, number: int) -> None:
        """Note that a trial's leg runs now."""
        self._move(number, "live")

    def halt(self, number: int) -> None:
        """Note that a trial's leg runs no more."""
        self._move(number, self._at_rest(number))

    def known(self) -> list[Known]:
        """Return what a suggestion is made from: all trials, or the best MOST_KNOWN / 2 and the latest MOST_KNOWN / 2.

        Failed trials are left out, and so are trials without a score that are not in training.
        """
        begun, half = len(self.records), MOST_KNOWN // 2
        chosen = self.records if begun <= MOST_KNOWN else {*islice(self.rungs.best(), half), *range(begun - half, begun)}
        known = {number: self._known(number) for number in sorted(chosen) if self.records[number].end != "failed"}
        return [trial for number, trial in known.items() if trial.scores or number in self.live]

    def expected(self, number: int) -> float | None:
        """Return the score that a trial is expected to have at the top rung, None if it has no score yet."""
        return self._known(number).expected

    def _known(self, number: int) -> Known:
        """Return a trial and its expected scores. One that was complete below all rungs has its best score."""
        record, scores = self.records[number], self.rungs.expectations(number)
        if not scores and record.end == "complete":
            scores = {0: max(record.reports.values())}
        return Known(record.parameters, scores)

    def _at_rest(self, number: int) -> Where:
        record = self.records[number]
        if record.end is not None:
            return "ended"
        return "paused" if record.epochs >= record.target else "interrupted"

    def _move(self, number: int, to: Where) -> None:
        record, before = self.records[number], self._where.get(number)
        if to != before:
            self._where[number] = to
            sets = {"live": self.live, "paused": self.paused, "interrupted": self.interrupted}
            if before in sets:
                sets[before].discard(number)
            if to in sets:
                sets[to].add(number)
            if before == "paused":
                self.rungs.leave(number)
            if to == "paused":
                self.rungs.wait(number)
            if to == "ended" and record.end != "complete":
                self.rungs.drop(number)
            elif before == "ended":
                self.rungs.restore(number)
        epochs = record.target if to in ("live", "interrupted") else record.epochs
        self.epochs += epochs - self._counted.get(number, 0)
        self._counted[number] = epochs
