"""ASHA's rungs as a state machine without clock or Ray. Its state does not depend on the order of the reports.

A trial pauses at a rung. The best one that waits there is promoted to the next rung as long as less than 1/eta of the rung's
trials went on. Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2, promote each one that is
among the best 1/eta of the trials that have reached its rung. As suggestions improve, each new trial is, and most epochs go into
promotions. To the top rung 1/eta^2 of the rung below are promoted: these promotions cost most, and the best of all trials are trained
to the top in the end (`account.py`).

The rungs keep themselves sorted: no answer takes a walk over all trials.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import merge
from itertools import islice

from hpa_search.search.lines import Line

Place = tuple[float, int]
"""A trial's place at a rung: its negative score and its number. The best place sorts first."""


class Rungs:
    """Keeps the trials' scores at the rungs, and chooses which paused trial to promote.

    ``levels`` are the rungs' epochs, ascending. `quota` says how many of a rung's trials are promoted.
    """

    def __init__(self, levels: tuple[int, ...], eta: int) -> None:
        assert levels == tuple(sorted(set(levels))) and levels[0] > 0
        self.levels, self.eta = levels, eta
        self._index = {level: index for index, level in enumerate(levels)}
        self._scores: list[dict[int, float]] = [{} for _ in levels]
        self._ranked: list[list[Place]] = [[] for _ in levels]
        self._waiting: list[list[Place]] = [[] for _ in levels]
        self._standings: list[list[Place]] = [[] for _ in levels]
        """The trials that are not dropped, at the highest rung of each."""
        self._highest: dict[int, int] = {}
        self._dropped: set[int] = set()
        self._lines = [Line() for _ in levels[1:]]
        self._aims: dict[int, int] = {}
        self._to_the_top: set[int] = set()
        """The trials that may train to the top rung and are not dropped."""
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
                _remove(self._standings[before], self._place(trial, before))
            self._highest[trial] = index
            if trial not in self._dropped:
                insort(self._standings[index], self._place(trial, index))

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
        self._count_at_the_top(trial)

    def drop(self, trial: int) -> None:
        """Leave a trial out of `best`: it has failed or was pruned. Its scores still count at the rungs."""
        if trial not in self._dropped:
            self._dropped.add(trial)
            self._count_at_the_top(trial)
            if (index := self._highest.get(trial)) is not None:
                _remove(self._standings[index], self._place(trial, index))

    def restore(self, trial: int) -> None:
        """Undo `drop`."""
        if trial in self._dropped:
            self._dropped.discard(trial)
            self._count_at_the_top(trial)
            if (index := self._highest.get(trial)) is not None:
                insort(self._standings[index], self._place(trial, index))

    def next_level(self, epoch: int) -> int:
        """Return the epochs of the first rung above ``epoch``, which must be below the top rung."""
        return next(level for level in self.levels if level > epoch)

    def promotable(self) -> Iterator[int]:
        """Yield the trials to promote, the highest rung first: of each rung the best that waits, if its `quota` is not used up."""
        for index in reversed(range(len(self.levels) - 1)):
            waiting, gone = self._waiting[index], self._gone[index]
            if waiting and gone < self.quota(self.levels[index], len(self._ranked[index])):
                yield waiting[0][1]

    def quota(self, level: int, trials: int) -> int:
        """Return how many of so many trials at the rung ``level`` are promoted."""
        below_the_top = self._index[level] == len(self.levels) - 2
        return trials // (self.eta**2 if below_the_top else self.eta)

    def beyond_quota(self) -> int:
        """Return how many more trials train, or have trained, to the top rung than are promoted to it; 0 if it is the only rung."""
        if len(self.levels) == 1:
            return 0
        return len(self._to_the_top) - self.quota(self.levels[-2], len(self._ranked[-2]))

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
        """Yield the trials that have reached a rung, by the score that is expected at the top rung, the best first."""
        ordered = (self._expected(index, places) for index, places in enumerate(self._standings))
        return (trial for _, _, _, trial in merge(*ordered))

    def first(self, count: int) -> list[int]:
        """Return the first ``count`` of `best`."""
        return list(islice(self.best(), count))

    def expectations(self, trial: int) -> dict[int, float]:
        """Return the scores that a trial is expected to have at the top rung, by the index of the rung whose score each is from."""
        return {index: self._at_the_top(index, scores[trial]) for index, scores in enumerate(self._scores) if trial in scores}

    def _expected(self, index: int, places: list[Place]) -> Iterator[tuple[float, int, float, int]]:
        """Yield places at a rung by what is expected of them. A line never falls, so their order is that of their scores."""
        return ((-self._at_the_top(index, -negative), -index, negative, trial) for negative, trial in places)

    def _at_the_top(self, index: int, score: float) -> float:
        for line in self._lines[index:]:
            score = line.at(score)
        return score

    def _count_at_the_top(self, trial: int) -> None:
        if self._aims.get(trial, 0) >= self.levels[-1] and trial not in self._dropped:
            self._to_the_top.add(trial)
        else:
            self._to_the_top.discard(trial)

    def _fit(self, trial: int, index: int) -> None:
        """Tell the lines a trial's new score at a rung. Scores may come in any order."""
        for lower in (index - 1, index):
            if lower >= 0 and lower + 1 < len(self.levels) and trial in self._scores[lower] and trial in self._scores[lower + 1]:
                self._lines[lower].add(self._scores[lower][trial], self._scores[lower + 1][trial])

    def _place(self, trial: int, index: int) -> Place:
        return -self._scores[index][trial], trial


def _remove(ordered: list[Place], item: Place) -> None:
    """Remove ``item`` from an ascending list, if it is there."""
    at = bisect_left(ordered, item)
    if at < len(ordered) and ordered[at] == item:
        del ordered[at]
