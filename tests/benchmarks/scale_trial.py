"""Trials of the scale benchmark: they sleep, or do nothing at all, and leave nothing on disk."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class IdleJob:
    """How long an epoch sleeps, in seconds."""

    seconds: float


@dataclass
class Idler:
    """Sleeps through its epochs."""

    seconds: float
    rate: float
    history: list[dict[str, Any]] = field(default_factory=list)

    def run_epoch(self) -> dict[str, Any]:
        """Sleep, and report what a trial reports: a dozen numbers."""
        time.sleep(self.seconds)
        epoch = len(self.history) + 1
        row = {"epoch": epoch, "objective": self.rate * epoch**0.5, **{f"metric_{index}": float(epoch) for index in range(10)}}
        self.history.append(row)
        return row

    def close(self) -> None:
        """Nothing is held."""


def open_idler(job: IdleJob, number: int, parameters: dict[str, Any]) -> Idler:
    """Open a trial."""
    return Idler(job.seconds, parameters["learning_rate"])
