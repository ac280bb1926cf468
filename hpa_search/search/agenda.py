"""Decide which leg runs next: resume an interrupted trial, promote, sample a new trial, or finish one of the best.

Every decision is written to the ledger before it is acted on. An agenda that is built from a ledger decides as the agenda
that wrote it would have. It knows neither Ray nor a clock of its own.

    agenda = Agenda(search, ledger, slots=2, spent_seconds=stopwatch)
    leg = agenda.next()                             # the ledger has the trial and its target
    is_over = agenda.report(leg.number, report)     # the ledger has the epoch; the agenda has decided what follows
    agenda.has_nothing_left                         # no leg runs and none ever will
    agenda.close()                                  # paused trials count as pruned
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Literal

from hpa_search.ledger.ledger import End, Ledger, TrialRecord
from hpa_search.search.account import Account
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.search.life import Life
from hpa_search.search.roster import Roster
from hpa_search.search.rungs import Rungs
from hpa_search.search.shelf import Shelf
from hpa_search.search.suggestions import suggest
from hpa_search.search.watcher import Watcher, Watchers
from hpa_search.space.search import Search
from hpa_search.space.settings import Budget

MOST_LOSSES = 3
MOST_FAILURES = 10
Kind = Literal["resume", "promote", "sample", "finish"]


class Agenda:
    """Decides which leg runs next and takes the legs' reports, in the driver's main thread.

    ``slots`` bounds the legs that run at a time. ``spent_seconds`` returns the seconds spent of the budget's hours, under
    earlier drivers too. ``life`` says whether a leg may begin, and is ended when the search cannot continue.
    """

    def __init__(
        self,
        search: Search,
        ledger: Ledger,
        *,
        slots: int,
        spent_seconds: Callable[[], float],
        life: Life | None = None,
        watchers: tuple[Watcher, ...] = (),
        shelf: Shelf | None = None,
    ) -> None:
        self.search, self.ledger, self.slots = search, ledger, slots
        self.life = life or Life()
        self.rungs = Rungs(search.rungs, search.scheduler.eta)
        self._roster = Roster(self.rungs)
        self._account = Account(
            _budget(search),
            self._roster,
            members=search.final.members,
            bounded=search.scheduler.kind == "promotion",
            spent_seconds=spent_seconds,
        )
        self._legs = 0
        self._spent_seconds, self._watchers, self._shelf = spent_seconds, Watchers(watchers), shelf
        self._losses, self._failures_in_a_row = Counter[int](), 0
        self._points, self._most_trials = search.points, search.most_trials
        self._load()

    def _load(self) -> None:
        trials = self.ledger.trials()
        self._watchers.resumed(trials, self._spent_seconds)
        for facts in trials:
            # One that was set aside waits as it did, for the case that the search was extended; else it is pruned again.
            self._roster.put(replace(facts, end=None) if facts.set_aside else facts)
        for facts in trials:
            if not facts.set_aside:
                self._settle(self.trials[facts.number])
        if self._shelf is not None:
            self._shelf.begin(self._roster)

    @property
    def trials(self) -> Mapping[int, TrialRecord]:
        """The records of all trials, by number."""
        return self._roster.records

    @property
    def live(self) -> Set[int]:
        """The numbers of the trials whose leg runs."""
        return self._roster.live

    def next(self) -> Leg | None:
        """Return the leg to run now, or None if there is none at this moment."""
        if not self.life.legs_may_begin or self.out_of_time or len(self.live) >= self.slots:
            return None
        choice = self._choice()
        return self._start(self._enact(*choice)) if choice else None

    def _choice(self) -> tuple[Kind, int] | None:
        """Return the next action and its trial, or None. Change nothing."""
        if self._roster.interrupted:
            return "resume", min(self._roster.interrupted)
        if self._account.in_reserved_hours and (number := self._finisher()) is not None:
            return "finish", number
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
    def has_nothing_left(self) -> bool:
        """Whether no leg runs, and none ever will unless the search is extended."""
        return not self.live and (self.out_of_time or self._choice() is None)

    def extend(self, budget: Budget) -> None:
        """Continue with another budget."""
        self.search = self.search.model_copy(update={"budget": budget})
        self._account.budget, self._most_trials = _budget(self.search), self.search.most_trials
        self._watchers.extended(self.search)

    @property
    def out_of_time(self) -> bool:
        """Whether the budget's hours are spent; legs then end with their running epoch."""
        return self._account.out_of_time

    def report(self, number: int, report: EpochReport) -> bool:
        """Record an epoch; return whether the leg is over."""
        is_over = self._report(number, report)
        if self._shelf is not None:
            self._shelf.tidy(self._roster, self._most_begun)
        return is_over

    def _report(self, number: int, report: EpochReport) -> bool:
        epoch, objective = report.epoch, report.objective
        if not math.isfinite(objective):
            self.fail(number, f"the objective was {objective} after epoch {epoch}")
            return True
        self._losses[number], self._failures_in_a_row = 0, 0
        facts = self.trials[number]
        # A checkpoint's epochs are reported again when its worker was replaced.
        if epoch not in facts.reports:
            self.ledger.report(number, epoch, objective)
            self._roster.update(number, reports={**facts.reports, epoch: objective})
            self._watchers.reported(number, report)
            if self._shelf is not None:
                self._shelf.reported(number, self._roster)
        if epoch < self.trials[number].target and not self._stale(self.trials[number]):
            if is_cut := self.out_of_time or self.life.is_draining:
                self._roster.halt(number)
            return is_cut
        self._roster.halt(number)
        self._settle(self.trials[number])
        if self.search.scheduler.kind == "stopping":
            for other in sorted(self._roster.paused):  # those that the budget holds back; few or none
                self._settle(self.trials[other])
        if number in self._roster.paused:
            self._watchers.ended(number, "paused", f"waits at epoch {epoch}")
        return True

    def fail(self, number: int, why: str) -> None:
        """Record that a trial has failed. After `MOST_FAILURES` in a row without an epoch, break the search off."""
        self._roster.halt(number)
        self._end(number, "failed", why)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MOST_FAILURES:
            self.life.break_off(
                f"{MOST_FAILURES} trials in a row failed without an epoch done by any; the last, trial {number}: {why}"
            )

    def release(self, number: int) -> None:
        """End a leg from outside; its trial resumes later."""
        self._roster.halt(number)

    def lose(self, number: int) -> None:
        """End a leg that was lost through no fault of its trial's; the trial resumes unless that happens `MOST_LOSSES` times."""
        self._roster.halt(number)
        self._losses[number] += 1
        if self._losses[number] >= MOST_LOSSES and self.trials[number].end is None:
            self.fail(number, f"its run was lost {MOST_LOSSES} times in a row without an epoch done")

    def restore(self) -> list[int]:
        """Pause the set-aside trials of a finished search again, which has been extended, and return their numbers."""
        aside = [number for number, facts in self.trials.items() if facts.set_aside and facts.end is None]
        if aside:
            self.ledger.take_up()
        for number in aside:
            self._roster.update(number, set_aside=False, ended=None)
            self._watchers.ended(number, "paused", f"waits at epoch {self.trials[number].epochs} again")
        return aside

    def lost_in_words(self) -> str:
        """Return how many of the trials that wait have no checkpoint any more, and what that means; empty if all have theirs."""
        waiting = [number for number in self._roster.paused.copy() if self.trials[number].epochs]
        lost = [number for number in waiting if self._shelf is not None and self._shelf.lacks(number)]
        if not lost or self.search.keep == "all":
            return ""
        return (
            f"{len(lost)} of the {len(waiting)} trials that wait have no checkpoint any more (keep: {self.search.keep}). "
            "One that is promoted trains again from its first epoch."
        )

    def close(self) -> None:
        """Set aside the trials that are paused or cut short by the budget. `restore` undoes this after an extension."""
        assert not self.live
        if self._shelf is not None:
            self._shelf.tidy(self._roster, self._most_begun, legs_are_over=True)
        for number, facts in self.trials.items():
            if facts.end is None and facts.set_aside:
                self.ledger.set_aside(number, str(facts.ended))  # for the case that its end was not written
                self._roster.update(number, end="pruned")
            elif facts.end is None:
                why = f"not promoted after epoch {facts.epochs}"
                if facts.epochs < facts.target:
                    why = f"the budget was spent after {facts.epochs} of its {facts.target} epochs"
                self.ledger.set_aside(number, why)
                self._roster.update(number, end="pruned", ended=why, set_aside=True)
                self._watchers.ended(number, "pruned", why)

    @property
    def _most_begun(self) -> int | None:
        """The largest number of trials that the budget can begin, None if only its hours bound them."""
        most, epochs = self._most_trials, self.search.budget.epochs
        if epochs is not None:
            more = len(self.trials) + max(epochs - self._roster.epochs, 0) // self.rungs.levels[0]
            most = more if most is None else min(most, more)
        return most

    def _promotable(self) -> int | None:
        """Return the trial to promote, or, by the scheduler `stopping`, the best survivor for which the budget is enough."""
        if self.search.scheduler.kind == "promotion":
            candidates = self.rungs.promotable()
        else:
            candidates = (number for number in self.rungs.best() if number in self._roster.paused)
        return next((number for number in candidates if self._may_promote(number)), None) if self._roster.paused else None

    def _may_promote(self, number: int) -> bool:
        epochs = self.trials[number].epochs
        return self._account.may_explore(self.rungs.next_level(epochs) - epochs, number)

    def _may_sample(self) -> bool:
        most, number = self._most_trials, len(self.trials)
        return (most is None or number < most) and self._account.may_explore(self._first_target(number))

    def _first_target(self, number: int) -> int:
        return min(self.rungs.levels[0], self.search.most_epochs(number))

    def _add(self, number: int) -> None:
        point = self._points[number] if number < len(self._points) else None
        known = self._roster.known() if self.search.sampler in ("gp", "tpe") else ()
        parameters, distributions = suggest(self.search, number, known, start_point=point)
        target = self._first_target(number)
        self.ledger.add(number, parameters, distributions, target=target)
        self._roster.put(TrialRecord(number, parameters, target, {}, None, None))

    def _finisher(self) -> int | None:
        """Return one of the best trials to train to the top rung: an ensemble needs finished members."""
        return next((number for number in self._account.unfinished if number not in self.live), None)

    def _start(self, number: int) -> Leg:
        facts = self.trials[number]
        self._roster.begin(number)
        self._legs += 1
        leg = Leg(self._legs, number, facts.parameters, facts.epochs, facts.target)
        self._watchers.started(leg)
        return leg

    def _settle(self, facts: TrialRecord) -> None:
        """Decide about a trial that has reached its target: complete, pruned, or paused until it is promoted."""
        if facts.end is not None or (facts.epochs < facts.target and not self._stale(facts)):
            return
        if facts.epochs >= self.search.most_epochs(facts.number):
            self._end(facts.number, "complete", "trained to the end")
        elif self._stale(facts):
            self._end(facts.number, "complete", f"no better in {self.search.scheduler.patience} epochs")
        elif self.search.scheduler.kind == "stopping" and not self.rungs.survives(facts.number):
            self._end(facts.number, "pruned", f"not among the best 1/{self.rungs.eta} after epoch {facts.epochs}")

    def _stale(self, facts: TrialRecord) -> bool:
        """Return whether the last ``patience`` epochs were no better than the best one (early stopping)."""
        patience = self.search.scheduler.patience
        if patience is None or not facts.reports:
            return False
        best = max(facts.reports, key=lambda epoch: (facts.reports[epoch], -epoch))
        return facts.epochs - best >= patience

    def _set_target(self, number: int, target: int) -> None:
        self.ledger.set_target(number, target)
        self._roster.update(number, target=target)

    def _end(self, number: int, end: End, why: str) -> None:
        self.ledger.end(number, end, why)
        self._roster.update(number, end=end, ended=why)
        self._watchers.ended(number, end, why)


def _budget(search: Search) -> Budget:
    """Return the search's budget. Without rungs every trial is trained to the end, so nothing is reserved to finish members."""
    return search.budget.model_copy(update={"reserve": 0.0}) if search.scheduler.kind == "none" else search.budget
