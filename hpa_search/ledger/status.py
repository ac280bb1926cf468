"""Read the state of a search from its ledger, in any process at any time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger, TrialRecord
from hpa_search.ledger.times import read_times

FINISHED = "finished"
RESTS = "rests"
"""The ledger's note of a search that was `paused` or `stopped`."""


def read_status(out: Path) -> dict[str, Any]:
    """Return the state of the search in ``out`` and of each of its trials, ready for JSON.

    The search is `running`, `finished`, `paused`, `stopped` or `interrupted`. A command has paused or stopped it, and
    `resume` resumes it. An interrupted search had its driver killed or broken off, and `resume` or the same `run` resumes it.

    A trial is `running`, `paused`, `complete`, `pruned` or `failed`. A trial in training is `waiting` while its search does
    not run. ``slot_seconds`` says where the slots' time went, see `ledger.times`. Raises UserError if ``out`` holds no search.
    """
    ledger = Ledger.open(out)
    facts, noted = ledger.trials(), ledger.noted()
    state = state_of(out, noted)
    return {
        "state": state,
        "seconds": round(noted.get("lease", {}).get("spent_seconds", 0.0), 1),
        "slot_seconds": read_times(out),
        "trials": [_trial(trial, state) for trial in facts],
    }


def state_of(out: Path, noted: Mapping[str, Any]) -> str:
    """Return the word for the state of the search in ``out``, by what its ledger has ``noted``."""
    if noted.get(FINISHED):
        return "finished"
    if lease.is_alive(noted.get("lease"), lambda: Ledger.open(out).noted()["lease"]):
        return "running"
    return noted.get(RESTS) or "interrupted"


def _trial(facts: TrialRecord, state: str) -> dict[str, Any]:
    return {
        "number": facts.number,
        "state": trial_state(facts, running=state == "running"),
        "parameters": facts.parameters,
        "epochs": facts.epochs,
        "reports": [{"epoch": epoch, "objective": objective} for epoch, objective in sorted(facts.reports.items())],
        "ended": facts.ended,
    }


def trial_state(facts: TrialRecord, *, running: bool) -> str:
    """Return the word for a trial's state."""
    if facts.end is not None:
        return facts.end
    if facts.epochs >= facts.target:
        return "paused"
    return "running" if running else "waiting"
