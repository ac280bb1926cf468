"""Our searcher and scheduler on Tune's public interfaces: both only ask the agenda.

A Tune trial is one leg of ours. It never pauses: a leg ends at its target, and a trial that goes on later does so
as a new leg, exactly as one that an earlier driver left behind.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from hpa_search.errors import UserError
from hpa_search.search.agenda import Agenda


class _Unpickled:
    """Tune pickles all it is given into its own folder, which is scratch: there is nothing worth keeping in ours."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (object, ())


class AgendaSearcher(_Unpickled, Searcher):
    """Suggests the agenda's next leg."""

    def __init__(
        self,
        agenda: Agenda,
        exchange_name: str,
        is_up: Callable[[], bool],
        cancel: Callable[[int, float], None],
        should_stop: Callable[[], bool],
    ) -> None:
        super().__init__(metric="number", mode="max")
        self._agenda, self._exchange_name, self._is_up = agenda, exchange_name, is_up
        self._cancel, self._should_stop = cancel, should_stop
        self.running_legs: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next leg as a Tune trial's config; None for not now; FINISHED for never again."""
        agenda, leg = self._agenda, None
        with _or_broken(agenda):
            leg = agenda.next()
        if leg is None:
            # Told to wait, Tune asks nothing else for minutes, also not whether to stop.
            over = agenda.is_held_back or self._should_stop()
            return Searcher.FINISHED if over or agenda.finished else None
        self.running_legs[trial_id] = leg.number
        return {"leg": asdict(leg), "exchange": self._exchange_name}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Give a leg back that the scheduler did not end: its proxy died, or everything is being stopped."""
        number = self.running_legs.pop(trial_id, None)
        if number is None:
            return
        with _or_broken(self._agenda):
            if error and self._is_up():
                self._agenda.lose(number)
                if self._agenda.trials[number].end is not None:
                    self._cancel(number, math.inf)
            else:
                self._agenda.release(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class AgendaScheduler(_Unpickled, FIFOScheduler):
    """Records each epoch and ends a leg where the agenda says so.

    ``cancel`` is told of a trial whose leg is over, and after which epoch; ``on_failure`` of a failure's traceback.
    """

    def __init__(
        self,
        agenda: Agenda,
        searcher: AgendaSearcher,
        cancel: Callable[[int, float], None],
        on_failure: Callable[[int, str], None],
    ) -> None:
        super().__init__()
        self._agenda, self._searcher, self._cancel, self._on_failure = agenda, searcher, cancel, on_failure

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept any metric: the objective is the agenda's business."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Take the rows that a proxy has."""
        number: int = result["number"]
        with _or_broken(self._agenda), self._agenda.together():
            if all(self._leg_goes_on(number, row) for row in result["rows"]):
                return TrialScheduler.CONTINUE
        # Told here, not in on_trial_complete: by then the same trial may be in its next leg.
        self._searcher.running_legs.pop(trial.trial_id)
        return TrialScheduler.STOP

    def _leg_goes_on(self, number: int, row: dict[str, Any]) -> bool:
        if "failed" in row:
            self._on_failure(number, row["details"])
            self._agenda.fail(number, row["failed"])
        elif "halted" in row:
            self._agenda.release(number)
            raise UserError(row["halted"])
        elif "stopped" in row:
            self._agenda.release(number)
        elif not self._agenda.report(number, row):
            return True
        else:
            self._cancel(number, row["epoch"])
        return False


class StopWhen(_Unpickled, Stopper):
    """Ends the experiment once it ``should``, the agenda is broken, or pauses or regroups and no leg runs; ``on_stop`` frees what
    waits.
    """

    def __init__(self, agenda: Agenda, should: Callable[[], bool], on_stop: Callable[[], None]) -> None:
        self._agenda, self._should, self._on_stop = agenda, should, on_stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single leg is ended here."""
        return False

    def stop_all(self) -> bool:
        """Return whether to end everything now."""
        agenda = self._agenda
        over = self._should() or agenda.broken or ((agenda.pausing or agenda.regrouping) and not agenda.live)
        if over and not agenda.stopping:
            agenda.stopping = True
            self._on_stop()
        return agenda.stopping


@contextmanager
def _or_broken(agenda: Agenda) -> Iterator[None]:
    """Take a ledger, log or error file that cannot be written for the end of this driver, not for Tune's or a trial's fault."""
    try:
        yield
    except (UserError, OSError) as error:
        agenda.broken = agenda.broken or str(error)
