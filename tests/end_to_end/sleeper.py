"""A trial that sleeps instead of training, with the files of a trial on disk: for tests of the search itself."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpa_search.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

WEIGHTS = torch.zeros(50_000)
"""What stands for a network: 0.2 MB."""


@dataclass(frozen=True)
class SleepJob:
    """Where checkpoints go, how long an epoch takes, and what happens in which trial's epochs."""

    out: Path
    seconds: float = 0.05
    raises_in: tuple[int, ...] = ()
    nan_in: tuple[int, ...] = ()
    kills_in: tuple[int, ...] = ()


@dataclass
class Sleeper:
    job: SleepJob
    number: int
    learning_rate: float
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return Path(self.job.out) / "trials" / f"{self.number:04d}"

    def run_epoch(self) -> dict[str, Any]:
        epoch = len(self.history) + 1
        started = time.time()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "begun").open("a") as file:
            file.write(f"{epoch}\n")
        if epoch == 2 and self.number in self.job.kills_in:
            os.kill(os.getpid(), signal.SIGKILL)
        if epoch == 2 and self.number in self.job.raises_in:
            raise RuntimeError("this trial raises")
        time.sleep(self.job.seconds)
        objective = float("nan") if self.number in self.job.nan_in else self.learning_rate * epoch**0.5
        row = {"epoch": epoch, "objective": objective, "pid": os.getpid(), "started": started, "ended": time.time()}
        self.history.append(row)
        logits = {row["epoch"]: np.zeros((1, 28), np.float16) for row in self.history}
        identity = {"learning_rate": self.learning_rate}
        save_checkpoint(self.folder, Checkpoint(identity, tuple(self.history), {"weights": WEIGHTS}, {}, logits))
        return row

    def close(self) -> None:
        pass


def open_sleeper(job: SleepJob, number: int, parameters: dict[str, Any]) -> Sleeper:
    trial = Sleeper(job, number, parameters["learning_rate"])
    if (checkpoint := load_checkpoint(trial.folder)) is not None:
        trial.history = list(checkpoint.history)
    return trial
