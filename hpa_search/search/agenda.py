"""What runs next. A trial is trained in legs: from where it is to the epochs it may train to (its target).

Every decision is written to the ledger before it is acted on, and an agenda built from a ledger decides as the one
that wrote it would have. It knows neither Ray nor a clock of its own.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hpa_search.ledger.ledger import End, Facts, Ledger
from hpa_search.search.rungs import Rungs
from hpa_search.search.sampler_view import suggest
from hpa_search.space.search import Search
from hpa_search.space.settings import Budget

MOST_LOSSES = 3
MOST_FAILURES = 10
Kind = Literal["resume", "promote", "sample", "finish"]


@dataclass(frozen=True)
class Leg:
    """Train trial ``number`` until it has ``target`` epochs; ``reported`` of them are in the ledger already."""

    number: int
    parameters: dict[str, Any]
    reported: int
    target: int


class Watcher(Protocol):
    """Is told what happens, after it is in the ledger."""

    def resumed(self, trials: list[Facts], spent_seconds: Callable[[], float]) -> None:
        """A driver begins with these trials of earlier ones; ``spent_seconds`` are those of the budget's hours, now and later."""

    def extended(self, search: Search) -> None:
        """The search goes on with another budget."""

    def started(self, leg: Leg) -> None:
        """A leg is about to run."""

    def reported(self, number: int, metrics: dict[str, float]) -> None:
        """A trial has finished an epoch."""

    def ended(self, number: int, state: str, why: str) -> None:
        """A trial is `paused`, `complete`, `pruned` or `failed`."""


class Agenda:
    """Decides which leg runs next and takes the legs' reports.

    ``spent_seconds`` tells the seconds spent of the budget's hours, under earlier drivers too. While it is ``pausing``, or
    ``regrouping`` for slots of another kind, legs end with their epochs and none begins.
    """

    def __init__(
        self,
        search: Search,
        ledger: Ledger,
        *,
        slots: int,
        spent_seconds: Callable[[], float],
        watchers: tuple[Watcher, ...] = (),
    ) -> None:
        self.search, self.ledger, self.slots = search, ledger, slots
        self.rungs = Rungs(search.rungs, search.scheduler.eta)
        self.trials: dict[int, Facts] = {}
        self.live: set[int] = set()
        self.stopping = False
        self.pausing = self.regrouping = False
        self.broken: str | None = None
        self._spent_seconds, self._watchers = spent_seconds, watchers
        self._untold: list[tuple[str, tuple[Any, ...]]] | None = None
        self._losses, self._failures_in_a_row = Counter[int](), 0
        self._points, self._most_trials = search.points, search.most_trials
        # Without rungs every trial is trained to the end, and nothing has to be kept for finishing some.
        self._reserve = 0.0 if search.scheduler.kind == "none" else search.budget.reserve
        self._load()

    def _load(self) -> None:
        self.trials = {facts.number: facts for facts in self.ledger.trials()}
        for facts in self.trials.values():
            for epoch, objective in facts.reports.items():
                self.rungs.report(facts.number, epoch, objective)
        self._tell("resumed", list(self.trials.values()), self._spent_seconds)
        for number, facts in self.trials.items():
            if facts.set_aside:
                self._update(number, end=None)
            self._settle(self.trials[number])

    def next(self) -> Leg | None:
        """Return the leg to run now, or None if there is none at this moment."""
        if self.is_held_back or self.out_of_time or len(self.live) >= self.slots:
            return None
        choice = self._choice()
        return self._start(self._enact(*choice)) if choice else None

    def _choice(self) -> tuple[Kind, int] | None:
        """Decide, and change nothing: what was interrupted first, then promotions, then new trials, then finishers."""
        if (number := self._interrupted()) is not None:
            return "resume", number
        if (number := self._promotable()) is not None:
            return "promote", number
        if self._may_sample():
            return "sample", len(self.trials)
        if (number := self._finisher()) is not None:
            return "finish", number
        return None

    def _enact(self, kind: Kind, number: int) -> int:
        if kind == "sample":
            self._add(number)
        elif kind == "promote":
            self._set_target(number, self.rungs.next_level(self.trials[number].epochs))
        elif kind == "finish":
            self._set_target(number, self.rungs.levels[-1])
        return number

    @property
    def is_held_back(self) -> bool:
        """Whether no leg is to begin under this driver, or none yet, whatever there is to do."""
        return bool(self.stopping or self.pausing or self.regrouping or self.broken)

    @property
    def finished(self) -> bool:
        """Whether no leg runs and none ever will."""
        return not (self.live or self.is_held_back) and (self.out_of_time or self._choice() is None)

    def extend(self, budget: Budget) -> None:
        """Go on with another budget."""
        self.search = self.search.model_copy(update={"budget": budget})
        self._most_trials = self.search.most_trials
        self._tell("extended", self.search)

    @property
    def out_of_time(self) -> bool:
        """Whether the budget's hours are spent: legs then end at their next epoch."""
        return self.search.budget.hours is not None and self._spent_seconds() >= self.search.budget.hours * 3600

    def report(self, number: int, metrics: dict[str, float]) -> bool:
        """Record an epoch's metrics; return whether the leg is over."""
        epoch, objective = int(metrics["epoch"]), metrics["objective"]
        if not math.isfinite(objective):
            self.fail(number, f"the objective was {objective} after epoch {epoch}")
            return True
        self._losses[number], self._failures_in_a_row = 0, 0
        facts = self.trials[number]
        if epoch not in facts.reports:
            self.ledger.report(number, epoch, objective)
            self._update(number, reports={**facts.reports, epoch: objective})
            self.rungs.report(number, epoch, objective)
            self._tell("reported", number, metrics)
        if epoch < self.trials[number].target and not self._stale(self.trials[number]):
            over = self.out_of_time or self.pausing or self.regrouping
            if over:
                self.live.discard(number)
            return over
        self.live.discard(number)
        self._settle(self.trials[number])
        if number in self.paused():
            self._tell("ended", number, "paused", f"waits at epoch {epoch}")
        return True

    def fail(self, number: int, why: str) -> None:
        """Record that a trial has failed; when one after the other does without an epoch done, the fault is not theirs."""
        self.live.discard(number)
        self._end(number, "failed", why)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MOST_FAILURES:
            self.broken = f"{MOST_FAILURES} trials in a row failed without an epoch done by any; the last, trial {number}: {why}"

    def release(self, number: int) -> None:
        """A leg was ended from outside; the trial goes on later."""
        self.live.discard(number)

    def lose(self, number: int) -> None:
        """A leg ended through no fault of its trial's; the trial goes on later, unless that happens again and again."""
        self.live.discard(number)
        self._losses[number] += 1
        if self._losses[number] >= MOST_LOSSES and self.trials[number].end is None:
            self.fail(number, f"its run was lost {MOST_LOSSES} times in a row without an epoch done")

    def take_up(self) -> None:
        """Go on with what was set aside when the search was finished: it has been extended since."""
        for number, facts in self.trials.items():
            if facts.set_aside and facts.end is None:
                self.ledger.set_aside(number, None)
                self._update(number, set_aside=False, ended=None)
                self._tell("ended", number, "paused", f"waits at epoch {facts.epochs} again")

    def close(self) -> None:
        """End a finished search: what is paused or was cut short by the budget is set aside."""
        assert not self.live
        for number, facts in self.trials.items():
            if facts.end is None and facts.set_aside:
                self._update(number, end="pruned")
            elif facts.end is None:
                why = f"not promoted after epoch {facts.epochs}"
                if facts.epochs < facts.target:
                    why = f"the budget was spent after {facts.epochs} of its {facts.target} epochs"
                self.ledger.set_aside(number, why)
                self._update(number, end="pruned", ended=why, set_aside=True)
                self._tell("ended", number, "pruned", why)

    def paused(self) -> list[int]:
        """Return the trials that wait at a rung."""
        return [
            n for n, facts in self.trials.items() if facts.end is None and facts.epochs >= facts.target and n not in self.live
        ]

    def _interrupted(self) -> int | None:
        waiting = (
            n for n, facts in self.trials.items() if facts.end is None and facts.epochs < facts.target and n not in self.live
        )
        return min(waiting, default=None)

    def _promotable(self) -> int | None:
        if self.search.scheduler.kind != "promotion":
            return None
        number = self.rungs.promotable(self.paused())
        if number is None:
            return None
        epochs = self.trials[number].epochs
        return number if self._may_explore(self.rungs.next_level(epochs) - epochs) else None

    def _may_sample(self) -> bool:
        most, number = self._most_trials, len(self.trials)
        return (most is None or number < most) and self._may_explore(self._first_target(number))

    def _first_target(self, number: int) -> int:
        return min(self.rungs.levels[0], self.search.most_epochs(number))

    def _add(self, number: int) -> None:
        point = self._points[number] if number < len(self._points) else None
        parameters, distributions = suggest(self.search, self.ledger.frozen(), self.live, start_point=point)
        target = self._first_target(number)
        self.ledger.add(number, parameters, distributions, target=target)
        self.trials[number] = Facts(number, parameters, target, {}, None, None)

    def _finisher(self) -> int | None:
        """One of the best trials, to be trained to the top rung because an ensemble needs finished members."""
        # Whatever is in training may turn out better than every trial that waits, so its places stay free.
        places = self.search.final.members - len(self.live)
        whole = [n for n, facts in self.trials.items() if facts.end == "complete"]
        for number in self.rungs.best([*whole, *self.paused()])[: max(places, 0)]:
            facts = self.trials[number]
            if facts.end is None and self._within_epochs(self.rungs.levels[-1] - facts.epochs, share=1.0):
                return number
        return None

    def _may_explore(self, epochs: int) -> bool:
        """Whether the search may still explore: the reserve is kept for the finishers."""
        budget = self.search.budget
        if budget.hours is not None and self._spent_seconds() >= budget.hours * 3600 * (1 - self._reserve):
            return False
        return self._within_epochs(epochs, share=1 - self._reserve)

    def _within_epochs(self, epochs: int, *, share: float) -> bool:
        if self.search.budget.epochs is None:
            return True
        done = sum(facts.epochs for facts in self.trials.values())
        promised = sum(self.trials[n].target - self.trials[n].epochs for n in self.live)
        return done + promised + epochs <= share * self.search.budget.epochs

    def _start(self, number: int) -> Leg:
        facts = self.trials[number]
        self.live.add(number)
        leg = Leg(number, facts.parameters, facts.epochs, facts.target)
        self._tell("started", leg)
        return leg

    def _settle(self, facts: Facts) -> None:
        """Give a trial that has reached its target its next state."""
        if facts.end is not None or (facts.epochs < facts.target and not self._stale(facts)):
            return
        if facts.epochs >= self.search.most_epochs(facts.number):
            self._end(facts.number, "complete", "trained to the end")
        elif self._stale(facts):
            self._end(facts.number, "complete", f"no better in {self.search.scheduler.patience} epochs")
        elif self.search.scheduler.kind != "stopping":
            return  # it is paused
        elif self.rungs.survives(facts.number):
            self._set_target(facts.number, self.rungs.next_level(facts.epochs))
        else:
            self._end(facts.number, "pruned", f"not among the best 1/{self.rungs.eta} after epoch {facts.epochs}")

    def _stale(self, facts: Facts) -> bool:
        """Whether the trial has trained for ``patience`` epochs since its best one (early stopping)."""
        patience = self.search.scheduler.patience
        if patience is None or not facts.reports:
            return False
        best = max(facts.reports, key=lambda epoch: (facts.reports[epoch], -epoch))
        return facts.epochs - best >= patience

    def _set_target(self, number: int, target: int) -> None:
        self.ledger.set_target(number, target)
        self._update(number, target=target)

    def _end(self, number: int, end: End, why: str) -> None:
        self.ledger.end(number, end, why)
        self._update(number, end=end, ended=why)
        self._tell("ended", number, end, why)

    def _update(self, number: int, **changes: Any) -> None:
        self.trials[number] = Facts(**{**vars(self.trials[number]), **changes})

    @contextmanager
    def together(self) -> Iterator[None]:
        """Record what comes of the block in one write; watchers hear of it after that."""
        self._untold = untold = list[tuple[str, tuple[Any, ...]]]()
        try:
            with self.ledger.together():
                yield
        finally:
            self._untold = None
        for event, arguments in untold:
            self._tell(event, *arguments)

    def _tell(self, event: str, *arguments: Any) -> None:
        if self._untold is not None:
            self._untold.append((event, arguments))
            return
        for watcher in self._watchers:
            getattr(watcher, event)(*arguments)
