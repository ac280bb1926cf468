"""Show a running search: a live table on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpa_search.ledger.ledger import TrialRecord
from hpa_search.ledger.status import trial_state
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.search.log import SearchLog
from hpa_search.space.search import Search

MOST_ROWS = 20


class View:
    """Shows the trials of a search as they run, and writes each line to ``log`` if it is given."""

    def __init__(self, search: Search, console: Console, log: SearchLog | None = None) -> None:
        self._search, self._console, self._log, self._most_trials = search, console, log, search.most_trials
        self._states: dict[int, str] = {}
        self._epochs: dict[int, int] = {}
        self._targets: dict[int, int] = {}
        self._objectives: dict[int, float] = {}
        self._began = time.monotonic()
        self._spent_seconds: Callable[[], float] = lambda: 0.0
        self._epochs_before, self._epochs_done = 0, 0
        self._live: Live | None = None

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the table on the terminal while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._table, refresh_per_second=2) as self._live:
            yield
        self._live = None

    def say(self, line: str) -> None:
        """Print a line, above a live table."""
        self._note(line)
        self._console.print(line, highlight=False, markup=False)

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Take over the trials of earlier drivers."""
        self._spent_seconds, self._epochs_before = spent_seconds, sum(facts.epochs for facts in trials)
        for facts in trials:
            self._states[facts.number] = trial_state(facts, running=False)
            self._epochs[facts.number], self._targets[facts.number] = facts.epochs, facts.target
            if facts.reports:
                self._objectives[facts.number] = max(facts.reports.values())
        if trials:
            self._line(f"resumed with {len(trials)} trials and {self._epochs_before} epochs of earlier runs")

    def extended(self, search: Search) -> None:
        """Take over the extended budget."""
        self._search, self._most_trials = search, search.most_trials
        budget = search.budget
        limits = {"trials": budget.trials, "hours": budget.hours, "epochs": budget.epochs}
        self._line("extended to " + ", ".join(f"{value:g} {name}" for name, value in limits.items() if value is not None))

    def started(self, leg: Leg) -> None:
        """Note a leg. The first leg of a trial is shown with its parameters."""
        self._states[leg.number], self._targets[leg.number] = "running", leg.target
        self._epochs.setdefault(leg.number, leg.reported)
        what = ", ".join(f"{name}={_short(value)}" for name, value in leg.parameters.items())
        self._line(
            f"trial {leg.number}: to epoch {leg.target}" + (f" ({what})" if leg.reported == 0 else f", from epoch {leg.reported}")
        )

    def reported(self, number: int, report: EpochReport) -> None:
        """Note an epoch."""
        self._epochs[number] = report.epoch
        self._epochs_done += 1
        self._objectives[number] = max(report.objective, self._objectives.get(number, float("-inf")))
        best = max(self._objectives, key=lambda trial: self._objectives[trial])
        name = self._search.objective.metric
        self._line(
            f"trial {number}: epoch {report.epoch}, {name} {report.objective:.4f}; best {self._objectives[best]:.4f} (trial {best})"
        )

    def ended(self, number: int, state: str, why: str) -> None:
        """Note a trial's new state."""
        self._states[number] = state
        self._line(f"trial {number}: {state}, {why}")

    def _line(self, line: str) -> None:
        if self._live is None:
            self.say(f"{self._elapsed()} {line}")
        else:
            self._note(f"{self._elapsed()} {line}")

    def _note(self, line: str) -> None:
        if self._log is not None:
            self._log.write(line)

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"

    def _table(self) -> Group:
        table = Table("trial", "state", "epochs", self._search.objective.metric)
        shown = sorted(self._states, key=lambda n: (self._states[n] != "running", -self._objectives.get(n, -1.0)))[:MOST_ROWS]
        for number in shown:
            objective = f"{self._objectives[number]:.4f}" if number in self._objectives else ""
            table.add_row(str(number), self._states[number], f"{self._epochs.get(number, 0)}/{self._targets[number]}", objective)
        return Group(table, Text(self._summary()))

    def _summary(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in Counter(self._states.values()).most_common())
        most = self._most_trials
        begun = f"{len(self._states)}{f' of {most}' if most else ''} trials"
        return f"{self._elapsed()}  {begun} ({counts})  rungs {', '.join(map(str, self._search.rungs))}  {self._time_left()}"

    def _time_left(self) -> str:
        """Return the time left by the budget of hours, or an estimate from the pace of the epochs so far.

        A trial to come is estimated at the mean epochs of the trials so far, a finisher at half the top rung.
        """
        budget, elapsed = self._search.budget, time.monotonic() - self._began
        if budget.hours is not None:
            return f"at most {max(budget.hours * 3600 - self._spent_seconds(), 0) / 60:.0f} min left"
        if not self._epochs_done:
            return ""
        pace = elapsed / self._epochs_done
        if budget.epochs is not None:
            return f"about {max(budget.epochs - self._epochs_before - self._epochs_done, 0) * pace / 60:.0f} min left"
        to_come = max((self._most_trials or 0) - len(self._states), 0) * sum(self._epochs.values()) / max(len(self._states), 1)
        whole = sum(state == "complete" for state in self._states.values())
        finishers = max(self._search.final.members - whole, 0) * self._search.rungs[-1] / 2
        return f"about {(to_come + finishers) * pace / 60:.0f} min left"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
