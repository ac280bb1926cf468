"""What a decision of the agenda costs as a search grows, and a suggestion of TPE's.

    python tests/benchmarks/decisions.py

Searches of 1,000, 10,000 and 50,000 trials with rungs, in memory. A leg that is handed out and an epoch that is taken are a
decision each; parameters are random draws. Exits with 1 if decisions at 50,000 trials take more than twice as long as at 1,000,
or if a suggestion takes more than 50 ms at the median.
"""

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from rich.console import Console
from rich.table import Table

from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.search.roster import Roster
from hpa_search.search.rungs import Rungs
from hpa_search.search.suggestions import suggest
from hpa_search.space.parsing import parse_search
from hpa_search.space.search import Search
from hpa_search.space.settings import Budget

SPACES = Path(__file__).parents[2] / "search_spaces"
SPACE = """
name: decisions
space:
  learning_rate: {log_range: [1.0e-4, 1.0e-1]}
  weight_decay: {log_range: [1.0e-6, 1.0e-2]}
budget: {epochs: 10000000, reserve: 0.25}
scheduler: {min_epochs: 1, max_epochs: 27, eta: 3}
"""
SECONDS = 5


def filled(search: Search, trials: int) -> Agenda:
    """Return the agenda of a search in memory that has begun so many trials."""
    storage = InMemoryStorage()
    ledger = Ledger(storage, storage.create_new_study([StudyDirection.MAXIMIZE], "scale"), "memory")
    agenda = Agenda(search.model_copy(update={"sampler": "random"}), ledger, slots=8, spent_seconds=lambda: 0.0)
    decide(agenda, lambda: len(agenda.trials) < trials)
    return agenda


def decide(agenda: Agenda, goes_on: Callable[[], bool]) -> int:
    """Hand out legs and take their epochs; return how many decisions that were."""
    rng, legs, decisions = random.Random(0), dict[int, int](), 0
    while goes_on():
        while (leg := agenda.next()) is not None:
            legs[leg.number], decisions = leg.reported, decisions + 1
        number = rng.choice(list(legs))
        legs[number], decisions = legs[number] + 1, decisions + 1
        if agenda.report(number, EpochReport(legs[number], rng.random(), {})):
            del legs[number]
    for number in legs:
        agenda.release(number)
    return decisions


def decisions_per_second(trials: int) -> float:
    agenda = filled(parse_search(SPACE, "decisions"), trials)
    until = time.monotonic() + SECONDS
    return decide(agenda, lambda: time.monotonic() < until) / SECONDS


def roster_of(agenda: Agenda) -> Roster:
    """Return the trials of a search, as its agenda has them."""
    roster = Roster(Rungs(agenda.search.rungs, agenda.search.scheduler.eta))
    for record in agenda.trials.values():
        roster.put(record)
    return roster


def suggestion_seconds(name: str, trials: int) -> float:
    """Return the median of 20 suggestions in a space of the project, after so many trials of random scores."""
    search = parse_search((SPACES / f"{name}.yaml").read_text(), name)
    search = search.model_copy(update={"budget": Budget(trials=10 * trials), "start_points": ()})
    roster, seconds = roster_of(filled(search, trials)), []
    for number in range(trials, trials + 20):
        began = time.perf_counter()
        suggest(search, number, roster.known())
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def main() -> None:
    table = Table("trials", "decisions per second", "a suggestion in demo.yaml, ms", "in full.yaml, ms")
    rates, slowest = [], 0.0
    for trials in (1000, 10_000, 50_000):
        rates.append(decisions_per_second(trials))
        times = [suggestion_seconds(name, trials) for name in ("demo", "full")] if trials <= 10_000 else []
        slowest = max(slowest, *times, 0.0)
        table.add_row(f"{trials:,}", f"{rates[-1]:,.0f}", *(f"{1000 * seconds:.0f}" for seconds in times))
    Console().print(table)
    sys.exit(1 if rates[-1] < rates[0] / 2 or slowest > 0.05 else 0)


if __name__ == "__main__":
    main()
