"""What a search writes for TensorBoard: a run for each trial, such as OUT/tensorboard/0007, and the run `search` for all of them."""

import logging
from collections import Counter
from collections.abc import Callable

from torch.utils.tensorboard import summary

from hpa_search.board import hparams
from hpa_search.board.events import EventFiles
from hpa_search.board.tags import (
    BEGUN,
    BEST_BY_EPOCHS,
    BEST_BY_MINUTES,
    BUSY,
    RUNNING,
    SEARCH,
    best_tag,
    layout,
    of_scalars,
    part_tag,
    run_of,
    scalars,
    tag,
)
from hpa_search.errors import UserError
from hpa_search.ledger.ledger import TrialRecord
from hpa_search.ledger.times import TRAINING, parts_of
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.space.search import Search
from hpa_search.training.score import METRICS

logger = logging.getLogger(__name__)


class TensorBoard:
    """Writes each epoch's metrics as it is reported; the step is the epoch."""

    def __init__(self, events: EventFiles, search: Search) -> None:
        self._events, self._space = events, search.space
        self._best: dict[int, float] = {}
        """The best objective of each trial."""
        self._top = float("-inf")
        self._shown_by_minutes = (-1, self._top)
        self._epochs, self._begun, self._live = 0, set[int](), set[int]()
        self._spent_seconds: Callable[[], float] = lambda: 0.0
        self._ends_stay = False
        self._slot_seconds = Counter[str]()
        """Where the slots' time went, under this driver."""

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Go on from the trials of earlier drivers, whose files are there. A new search gets the columns of its trials."""
        self._spent_seconds, self._begun = spent_seconds, {trial.number for trial in trials}
        self._epochs = sum(len(trial.reports) for trial in trials)
        self._best = {trial.number: max(trial.reports.values()) for trial in trials if trial.reports}
        self._top = max(self._best.values(), default=self._top)
        is_new = not self._events.has(SEARCH)
        if is_new:
            self._events.write(SEARCH, hparams.experiment(self._space, ["objective", *METRICS]), layout())
        for trial in trials:
            if is_new:  # of a search that was begun before its trials had rows
                self._events.write(run_of(trial.number), hparams.started(self._space, trial.parameters))
            # An earlier driver may have been killed between the ledger's note and the end here.
            if trial.end is None or not self._events.has_end(run_of(trial.number)):
                self.ended(trial.number, trial.end or "paused", "")

    def extended(self, search: Search) -> None:
        """Do nothing: the space is the same."""

    def started(self, leg: Leg) -> None:
        """Open the trial's run and write its parameters."""
        self._live.add(leg.number)
        self._begun.add(leg.number)
        written = [hparams.started(self._space, leg.parameters)]  # of a run's rows, TensorBoard takes the first
        if leg.reported == 0:
            written.append(
                summary.text("parameters", "\n".join(f"    {name}: {value}" for name, value in leg.parameters.items()))
            )
        self._events.write(run_of(leg.number), *written)

    def reported(self, number: int, report: EpochReport) -> None:
        """Write an epoch's scalars."""
        values = scalars(report.metrics)
        parts = parts_of(report.metrics)
        written = {tag(name): value for name, value in values.items()}
        written |= {part_tag(part): seconds for part, seconds in parts.items() if seconds}
        if report.objective > self._best.get(number, float("-inf")):
            self._best[number] = report.objective
            written |= {best_tag(name): values[name] for name in ("objective", *METRICS) if name in values}
        self._events.write(run_of(number), of_scalars(written), step=report.epoch)
        self._slot_seconds.update(parts)
        self._epochs += 1
        self._top = max(self._top, report.objective)
        of_all = {BEST_BY_EPOCHS: self._top, RUNNING: len(self._live), BEGUN: len(self._begun), BUSY: self._busy_share}
        self._events.write(SEARCH, of_scalars(of_all), step=self._epochs)
        if (by_minutes := (int(self._spent_seconds() / 60), self._top)) != self._shown_by_minutes:
            self._events.write(SEARCH, of_scalars({BEST_BY_MINUTES: self._top}), step=by_minutes[0])
            self._shown_by_minutes = by_minutes

    def ended(self, number: int, state: str, why: str) -> None:
        """Write how a trial has ended. One that is paused has not; it may have been before the search was extended."""
        if state != "paused":
            self._events.end(run_of(number), hparams.ended(state))
        elif number not in self._live:
            self._take_back_end(run_of(number))
        self._live.discard(number)

    def _take_back_end(self, run: str) -> None:
        if self._ends_stay:
            return
        try:
            self._events.take_back_end(run)
        except (OSError, UserError) as error:  # what is shown ends no search, and a store that is away is not waited for again
            self._ends_stay = True
            logger.warning("TensorBoard shows trials as ended that go on, such as %s: %s", run, error)

    @property
    def _busy_share(self) -> float:
        total = self._slot_seconds.total()
        return self._slot_seconds[TRAINING] / total if total else 0.0
