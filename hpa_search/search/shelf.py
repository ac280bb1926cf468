"""What a search keeps on disk: weights and checkpoints only of trials that may still need them.

A trial needs its checkpoint, with the optimizer, to be promoted or to resume. Its weights are needed to enter the ensemble. So a
checkpoint goes when its trial has ended. Checkpoint and weights go when a trial is not among the ensemble's candidates and cannot go
on: it has ended, or waits behind more trials than the budget can promote and members may be. Logits and metrics stay.

A limit in bytes makes trials go that may still need theirs, the worst first. A trial that lost its checkpoint and is promoted all the
same trains again from its first epoch, to the same result. It is no candidate, so the ensemble loses nothing meanwhile.
"""

import logging
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from hpa_search.errors import UserError
from hpa_search.search.roster import Roster
from hpa_search.space.search import Search

logger = logging.getLogger(__name__)

MOST_CANDIDATES = 50
"""The number of trials whose weights are kept for the ensemble: at least as many as the final stage chooses from."""
_Entry = tuple[float, int]
"""A trial's negative best objective and its number. The best sorts first."""


@dataclass(frozen=True)
class Kept:
    """What a trial has on disk: the bytes of its weights and checkpoint together, and whether there is a checkpoint."""

    bytes: int
    checkpoint: bool


class TrialFiles(Protocol):
    """The files of the trials."""

    def kept(self) -> dict[int, Kept]:
        """Return what each trial has; one that has nothing is missing."""

    def size(self, number: int) -> int:
        """Return the bytes of a trial's weights and checkpoint."""

    def remove_checkpoint(self, number: int) -> None:
        """Remove a trial's checkpoint."""

    def remove_weights(self, number: int) -> None:
        """Remove a trial's checkpoint and weights."""


class Shelf:
    """Removes what no trial needs, after each epoch. The agenda says what has happened."""

    def __init__(self, search: Search, files: TrialFiles) -> None:
        self._files, self._keep = files, search.keep
        self._levels = search.rungs
        self._promotes = search.scheduler.kind == "promotion"
        self._spared = max(search.final.members, search.final.max_members)
        """The number of trials that no limit touches, the best by standing and the best by their objective."""
        self._limit = None if isinstance(search.keep, str) else int(search.keep * 1e9)
        self._has_warned, self._has_failed = False, False
        self._sizes: dict[int, int] = {}
        self._entries: list[_Entry] = []
        self._of_trial: dict[int, _Entry] = {}
        self._closed: set[int] = set()
        """The trials without a checkpoint, but with weights."""

    @property
    def bytes(self) -> int:
        """The bytes of all weights and checkpoints, as far as they have been seen."""
        return sum(self._sizes.values())

    def lacks(self, number: int) -> bool:
        """Return whether a trial has no checkpoint."""
        return number in self._closed or number not in self._sizes

    def begin(self, roster: Roster) -> None:
        """Take the trials of earlier drivers, and what they have on disk."""
        there: dict[int, Kept] = {}
        with self._saying():
            there = self._files.kept()
        self._sizes = {number: kept.bytes for number, kept in there.items()}
        self._closed = {number for number, kept in there.items() if not kept.checkpoint}
        for number in roster.records:
            if number in self._sizes:
                self._enter(number, roster)

    def reported(self, number: int, roster: Roster) -> None:
        """Take a trial's new epoch."""
        self._sizes[number] = self._size(number)
        self._closed.discard(number)
        self._enter(number, roster)

    def tidy(self, roster: Roster, most_trials: int | None, *, legs_are_over: bool = False) -> None:
        """Remove what no trial needs. ``most_trials`` is the number of trials that the budget can begin, None if unknown.

        A trial that ended before its target may have a worker still at its next epoch, until all legs are over.
        """
        if self._keep == "all":
            return
        for number in [number for number in self._sizes if self._is_over(number, roster, legs_are_over)]:
            if number not in self._closed:
                self._close(number)
            if roster.records[number].end == "failed":
                self._leave(number)
        best = self._candidates(MOST_CANDIDATES)
        for number in (self._closed | self._hopeless(roster, most_trials)) - best - roster.live:
            self._remove(number)
        if self._limit is not None:
            self._keep_limit(roster, self._limit)

    def _is_over(self, number: int, roster: Roster, legs_are_over: bool) -> bool:
        record = roster.records.get(number)
        if record is None or record.end is None or record.set_aside or number in roster.live:
            return False
        return legs_are_over or record.epochs >= record.target

    def _hopeless(self, roster: Roster, most_trials: int | None) -> set[int]:
        """Return the trials that wait behind more than their rung can still promote, and behind more than may be members.

        Members may be finished and turn out worse than others, which are members then: so many again.
        """
        if most_trials is None or not self._promotes:
            return set()
        found, most = set[int](), most_trials
        for level in self._levels[:-1]:
            waiting, gone = roster.rungs.waiting(level)
            can_go = max(roster.rungs.quota(level, most), gone)
            found |= self._sizes.keys() & waiting[can_go - gone + 2 * self._spared :]
            most = can_go + self._spared  # members pass the rungs whatever their rank
        return found

    def _keep_limit(self, roster: Roster, limit: int) -> None:
        """Make trials go until the limit is kept: candidates far from the best, then trials that wait, then other candidates."""
        if (total := self.bytes) <= limit:
            return
        spared = {*roster.rungs.first(self._spared), *self._candidates(self._spared)}
        closed = self._closed - roster.live
        far = closed - self._candidates(2 * self._spared)
        standing = {number: place for place, number in enumerate(roster.rungs.best())}
        order = [
            *sorted(far, key=self._rank, reverse=True),
            *sorted((n for n in roster.paused if n in self._sizes), key=lambda n: standing.get(n, len(standing)), reverse=True),
            *sorted(closed - far, key=self._rank, reverse=True),
        ]
        for number in order:
            if total <= limit:
                return
            if number not in spared and number in self._sizes:
                total -= self._sizes[number]
                self._remove(number)
        if total > limit and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "keep: %s GB is exceeded: the members and the trials in training alone take %.1f GB", self._keep, total / 1e9
            )

    def _size(self, number: int) -> int:
        """Return a trial's bytes; without a limit they do not matter."""
        if self._limit is not None:
            with self._saying():
                return self._files.size(number)
        return self._sizes.get(number, 1)

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """Log the first error of the files. A file that cannot be removed ends no search."""
        try:
            yield
        except (OSError, UserError) as error:
            if not self._has_failed:
                logger.warning("what no trial needs any more cannot be removed: %s", error)
            self._has_failed = True

    def _enter(self, number: int, roster: Roster) -> None:
        """Enter a trial's best objective. It only rises, so a trial that falls behind never comes back."""
        self._leave(number)
        if (reports := roster.records[number].reports) and roster.records[number].end != "failed":
            self._of_trial[number] = -max(reports.values()), number
            insort(self._entries, self._of_trial[number])

    def _leave(self, number: int) -> None:
        if (entry := self._of_trial.pop(number, None)) is not None:
            del self._entries[bisect_left(self._entries, entry)]

    def _candidates(self, most: int) -> set[int]:
        return {number for _, number in self._entries[:most]}

    def _rank(self, number: int) -> float:
        return self._of_trial.get(number, (0.0, number))[0]

    def _close(self, number: int) -> None:
        """Remove a trial's checkpoint."""
        with self._saying():
            self._files.remove_checkpoint(number)
        self._sizes[number] = self._size(number)
        self._closed.add(number)

    def _remove(self, number: int) -> None:
        with self._saying():
            self._files.remove_weights(number)
        self._sizes.pop(number, None)
        self._closed.discard(number)
        self._leave(number)
