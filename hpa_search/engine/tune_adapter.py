"""The agenda behind Tune's public interfaces.

A Tune trial is one leg of ours, and it never pauses. A leg ends at its target. Its trial resumes later with another leg, and
so does a trial that an earlier driver left behind. Tune's searcher, scheduler and stopper only pass questions to one object:

    Legs.begin(trial_id)            suggest          the agenda's next leg
    Legs.take(trial_id, leg, ...)   on_trial_result  a leg's epochs and end, into the agenda
    Legs.lose(trial_id, ...)        on_trial_complete  a leg that ended without an event: its proxy died
    Legs.is_over()                  stop_all         the driver's state, passed on to the mailbox

All of them run in the driver's main thread, in Tune's loop.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from hpa_search.errors import UserError
from hpa_search.files import write_text
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport, Failed, Halted, Leg, LegEvent

ANSWER_SECONDS = 30.0


class Legs:
    """The legs that Tune runs for an agenda, by Tune's trial ids. Errors of failed trials go to ``out``."""

    def __init__(self, agenda: Agenda, mailbox: ActorHandle, out: Path) -> None:
        self._agenda, self._mailbox, self._out = agenda, mailbox, out
        self.running: dict[str, Leg] = {}

    def begin(self, trial_id: str) -> Leg | None:
        """Return the leg to run now; None if there is none at this moment."""
        leg = None
        with self._or_break_off():
            leg = self._agenda.next()
        if leg is not None:
            self.running[trial_id] = leg
        return leg

    @property
    def none_will_come(self) -> bool:
        """Whether no leg will begin any more under this driver, or not with these slots."""
        return not self._agenda.life.legs_may_begin or self._agenda.has_nothing_left

    def take(self, trial_id: str, leg: Leg, events: Sequence[LegEvent]) -> bool:
        """Record a leg's events, in order; return whether the leg continues."""
        with self._or_break_off():
            if all(self._continues(leg, event) for event in events):
                return True
        # Not in `lose`, when Tune's trial is complete: by then our trial may be in its next leg.
        self.running.pop(trial_id)
        return False

    def lose(self, trial_id: str, *, died: bool) -> None:
        """Give back a leg that ended without an event: its proxy has ``died``, or Tune stops everything."""
        if (leg := self.running.pop(trial_id, None)) is None:
            return
        with self._or_break_off():
            if not (died and self._mailbox_answers()):
                self._agenda.release(leg.number)
                return
            self._agenda.lose(leg.number)
            if self._agenda.trials[leg.number].end is not None:
                self._mailbox.cancel.remote(leg)

    def is_over(self) -> bool:
        """Return whether Tune is to end, and pass the driver's state on to the mailbox."""
        life = self._agenda.life
        if life.is_ending or (life.is_draining and not self._agenda.live):
            self._mailbox.close.remote()
            return True
        if life.is_draining:
            self._mailbox.drain.remote()
        return False

    def _continues(self, leg: Leg, event: LegEvent) -> bool:
        if isinstance(event, EpochReport):
            if is_over := self._agenda.report(leg.number, event):
                # It may be over before its target; the cancellation of a leg that has ended changes nothing.
                self._mailbox.cancel.remote(leg)
            return not is_over
        if isinstance(event, Failed):
            write_text(self._out / "trials" / f"{leg.number:04d}" / "error.txt", event.details)
            self._agenda.fail(leg.number, event.why)
            return False
        self._agenda.release(leg.number)
        if isinstance(event, Halted):
            self._agenda.life.break_off(event.why)
        return False

    def _mailbox_answers(self) -> bool:
        """Return whether the mailbox lives; without it every leg is lost, through no fault of any trial's."""
        try:
            ray.get(self._mailbox.is_closed.remote(), timeout=ANSWER_SECONDS)
        except (RayError, TimeoutError):
            self._agenda.life.break_off("the mailbox between slots and trials died (killed, or out of the host's memory)")
            return False
        return True

    @contextmanager
    def _or_break_off(self) -> Iterator[None]:
        """Break the search off if a ledger, log or error file cannot be written. Tune would blame the trial."""
        try:
            yield
        except (UserError, OSError) as error:
            self._agenda.life.break_off(str(error))


class _Unpickled:
    """Tune pickles what it is given into its own folder. That folder is scratch, and a live agenda cannot be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (object, ())


class AgendaSearcher(_Unpickled, Searcher):
    """Suggests the agenda's next leg."""

    def __init__(self, legs: Legs, mailbox_name: str) -> None:
        super().__init__(metric="training_iteration", mode="max")  # any that every result has
        self._legs, self._mailbox_name = legs, mailbox_name

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next leg as a Tune trial's config; None for not now; FINISHED for never again."""
        if (leg := self._legs.begin(trial_id)) is not None:
            return {"leg": leg, "mailbox": self._mailbox_name}
        # After None, Tune asks for a leg each second, but the stopper only while a Tune trial lives.
        return Searcher.FINISHED if self._legs.none_will_come else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Give back a leg that the scheduler did not end."""
        self._legs.lose(trial_id, died=error)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger has it."""


class AgendaScheduler(_Unpickled, FIFOScheduler):
    """Records a leg's events and stops its Tune trial where the agenda says so."""

    def __init__(self, legs: Legs) -> None:
        super().__init__()
        self._legs = legs

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept any metric: the agenda knows the objective."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Take what a proxy's step returned."""
        goes_on = self._legs.take(trial.trial_id, result["leg"], result["events"])
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class StopWhenOver(_Unpickled, Stopper):
    """Ends the experiment when the driver ends, or when it changes its slots and no leg runs."""

    def __init__(self, legs: Legs) -> None:
        self._legs = legs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial: the scheduler does."""
        return False

    def stop_all(self) -> bool:
        """Return whether to end everything now. Tune asks in each turn of its loop, ten times a second."""
        return self._legs.is_over()
