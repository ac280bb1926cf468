"""ASHA's rungs as a state machine without clock or Ray. Its state does not depend on the order of the reports.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2: a trial pauses at a rung. It is promoted
to the next rung when it is among the best 1/eta of the trials that have reached its own.
"""

from collections.abc import Iterable


class Rungs:
    """Keeps the trials' scores at the rungs, and chooses which paused trial to promote.

    ``levels`` are the rungs' epochs, ascending; 1/``eta`` of the trials at a rung are promoted.
    """

    def __init__(self, levels: tuple[int, ...], eta: int) -> None:
        assert levels == tuple(sorted(set(levels))) and levels[0] > 0
        self.levels, self.eta = levels, eta
        self._scores: list[dict[int, float]] = [{} for _ in levels]
        self._reached: dict[int, int] = {}

    def report(self, trial: int, epoch: int, score: float) -> None:
        """Record a trial's score after ``epoch`` epochs. Only scores at a rung count."""
        self._reached[trial] = max(self._reached.get(trial, 0), epoch)
        if epoch in self.levels:
            self._scores[self.levels.index(epoch)][trial] = score

    def next_level(self, epoch: int) -> int:
        """Return the epochs of the first rung above ``epoch``, which must be below the top rung."""
        return next(level for level in self.levels if level > epoch)

    def promotable(self, paused: Iterable[int]) -> int | None:
        """Return the paused trial to promote, or None: the best promotable trial of the highest rung that has any."""
        waiting = set(paused)
        for level, scores in reversed(list(zip(self.levels[:-1], self._scores[:-1], strict=True))):
            for trial in self._ranked(scores)[: len(scores) // self.eta]:
                # A trial counts at every rung that it has reached, and is promoted from the last of them alone.
                if trial in waiting and self._reached[trial] == level:
                    return trial
        return None

    def survives(self, trial: int) -> bool:
        """Return whether the stopping variant keeps a trial: it is among the best 1/eta, at least one, at its rung so far."""
        scores = self._scores[self.levels.index(self._reached[trial])]
        return trial in self._ranked(scores)[: max(1, len(scores) // self.eta)]

    def best(self, trials: Iterable[int]) -> list[int]:
        """Return those ``trials`` that have reached a rung, the best first: by their highest rung, then by the score there."""
        placed = {}
        for index, scores in enumerate(self._scores):
            placed.update({trial: (index, score) for trial, score in scores.items()})
        known = [trial for trial in trials if trial in placed]
        return sorted(known, key=lambda trial: (placed[trial], -trial), reverse=True)

    @staticmethod
    def _ranked(scores: dict[int, float]) -> list[int]:
        return sorted(scores, key=lambda trial: (-scores[trial], trial))
