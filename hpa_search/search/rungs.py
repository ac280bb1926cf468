"""ASHA's rungs as a state machine without clock or Ray. Its state does not depend on the order of the reports.

A trial pauses at a rung. The best one that waits there is promoted to the next rung as long as less than 1/eta of the rung's
trials went on. Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2, promote each one that is
among the best 1/eta of the trials that have reached its rung. As suggestions improve, each new trial is, and most epochs go into
promotions.

The rungs keep themselves sorted: no answer takes a walk over all trials.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TypeVar

from hpa_search.search.lines import Line

Place = tuple[float, int]
"""A trial's place at a rung: its negative score and its number. The best place sorts first."""
Standing = tuple[int, float, int]
"""A trial's place among all trials: its highest rung's negative index, its negative score there, and its number."""
T = TypeVar("T", Place, Standing)


class Rungs:
    """Keeps the trials' scores at the rungs, and chooses which paused trial to promote.

    ``levels`` are the rungs' epochs, ascending; 1/``eta`` of the trials at a rung are promoted.
    """

    def __init__(self, levels: tuple[int, ...], eta: int) -> None:
        assert levels == tuple(sorted(set(levels))) and levels[0] > 0
        self.levels, self.eta = levels, eta
        self._index = {level: index for index, level in enumerate(levels)}
        self._scores: list[dict[int, float]] = [{} for _ in levels]
        self._ranked: list[list[Place]] = [[] for _ in levels]
        self._waiting: list[list[Place]] = [[] for _ in levels]
        self._standings: list[Standing] = []
        self._highest: dict[int, int] = {}
        self._dropped: set[int] = set()
        self._lines = [Line() for _ in levels[1:]]
        self._aims: dict[int, int] = {}
        self._gone = [0 for _ in levels]
        """How many of each rung's trials were let beyond it."""

    def report(self, trial: int, epoch: int, score: float) -> None:
        """Record a trial's score after ``epoch`` epochs. Only scores at a rung count, and only the first one there."""
        index = self._index.get(epoch)
        if index is None or trial in self._scores[index]:
            return
        self._scores[index][trial] = score
        self._gone[index] += self._aims.get(trial, 0) > epoch
        self._fit(trial, index)
        insort(self._ranked[index], (-score, trial))
        before = self._highest.get(trial, -1)
        if index > before:
            self.leave(trial)
            if before >= 0 and trial not in self._dropped:
                _remove(self._standings, self._standing(trial))
            self._highest[trial] = index
            if trial not in self._dropped:
                insort(self._standings, self._standing(trial))

    def wait(self, trial: int) -> None:
        """Let a trial wait at its highest rung for its promotion."""
        if (index := self._highest.get(trial)) is not None:
            self.leave(trial)
            insort(self._waiting[index], self._place(trial, index))

    def leave(self, trial: int) -> None:
        """End a trial's wait, if it waits."""
        if (index := self._highest.get(trial)) is not None:
            _remove(self._waiting[index], self._place(trial, index))

    def aim(self, trial: int, epochs: int) -> None:
        """Note that a trial may train to ``epochs``: it goes beyond the rungs below, once it has reached them."""
        before = self._aims.get(trial, 0)
        for index, level in enumerate(self.levels):
            self._gone[index] += before <= level < epochs and trial in self._scores[index]
        self._aims[trial] = max(before, epochs)

    def drop(self, trial: int) -> None:
        """Leave a trial out of `best`: it has failed or was pruned. Its scores still count at the rungs."""
        if trial not in self._dropped:
            self._dropped.add(trial)
            if trial in self._highest:
                _remove(self._standings, self._standing(trial))

    def restore(self, trial: int) -> None:
        """Undo `drop`."""
        if trial in self._dropped:
            self._dropped.discard(trial)
            if trial in self._highest:
                insort(self._standings, self._standing(trial))

    def next_level(self, epoch: int) -> int:
        """Return the epochs of the first rung above ``epoch``, which must be below the top rung."""
        return next(level for level in self.levels if level > epoch)

    def promotable(self) -> Iterator[int]:
        """Yield the trials to promote, the highest rung first: of each rung the best that waits, if less than 1/eta went on."""
        for ranked, waiting, gone in reversed(list(zip(self._ranked[:-1], self._waiting[:-1], self._gone[:-1], strict=True))):
            if waiting and gone < len(ranked) // self.eta:
                yield waiting[0][1]

    def waiting(self, level: int) -> tuple[list[int], int]:
        """Return the trials that wait at the rung ``level``, the best first, and how many of its trials went on."""
        index = self._index[level]
        return [trial for _, trial in self._waiting[index]], self._gone[index]

    def survives(self, trial: int) -> bool:
        """Return whether the stopping variant keeps a trial: it is among the best 1/eta, at least one, at its rung so far."""
        index = self._highest[trial]
        ranked = self._ranked[index]
        return bisect_left(ranked, self._place(trial, index)) < max(1, len(ranked) // self.eta)

    def best(self) -> Iterator[int]:
        """Yield the trials that have reached a rung, the best first: by their highest rung, then by the score there."""
        return (trial for _, _, trial in self._standings)

    def first(self, count: int) -> list[int]:
        """Return the first ``count`` of `best`."""
        return [trial for _, _, trial in self._standings[:count]]

    def expected(self, trial: int) -> float | None:
        """Return the score that a trial is expected to have at the top rung, by its score at its highest rung, or None."""
        index = self._highest.get(trial)
        if index is None:
            return None
        score = self._scores[index][trial]
        for line in self._lines[index:]:
            score = line.at(score)
        return score

    def _fit(self, trial: int, index: int) -> None:
        """Tell the lines a trial's new score at a rung. Scores may come in any order."""
        for lower in (index - 1, index):
            if lower >= 0 and lower + 1 < len(self.levels) and trial in self._scores[lower] and trial in self._scores[lower + 1]:
                self._lines[lower].add(self._scores[lower][trial], self._scores[lower + 1][trial])

    def _place(self, trial: int, index: int) -> Place:
        return -self._scores[index][trial], trial

    def _standing(self, trial: int) -> Standing:
        index = self._highest[trial]
        return -index, *self._place(trial, index)


def _remove(ordered: list[T], item: T) -> None:
    """Remove ``item`` from an ascending list, if it is there."""
    at = bisect_left(ordered, item)
    if at < len(ordered) and ordered[at] == item:
        del ordered[at]
