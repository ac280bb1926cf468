"""The trial of the overhead benchmark: builds a ResNet-18 and takes a few steps, or sleeps; notes when."""

import json
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = 3


@dataclass(frozen=True)
class BenchmarkJob:
    """Where rows go; trials sleep ``seconds`` an epoch, or train for real where that is 0."""

    out: Path
    seconds: float


def train_steps() -> tuple[float, float]:
    """Build a ResNet-18, take a few steps; return when the first began and the last ended."""
    import timm
    import torch

    network = timm.create_model("resnet18", num_classes=28)
    optimizer = torch.optim.AdamW(network.parameters())
    images = torch.zeros(4, 3, 64, 64)
    first = time.time()
    for _ in range(STEPS):
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
    return first, time.time()


@dataclass
class BenchmarkTrial:
    """Keeps its epochs' rows in a file, so that a promoted trial resumes."""

    job: BenchmarkJob
    number: int
    learning_rate: float
    leg: str = field(default_factory=lambda: uuid.uuid4().hex)
    history: list[dict[str, Any]] = field(default_factory=list)

    def run_epoch(self) -> dict[str, Any]:
        """Train or sleep."""
        if self.job.seconds:
            first = time.time()
            time.sleep(self.job.seconds)
            last = time.time()
        else:
            first, last = train_steps()
        row = {
            "epoch": len(self.history) + 1,
            "objective": self.learning_rate,
            "pid": os.getpid(),
            "leg": self.leg,
            "first": first,
            "last": last,
        }
        self.history.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row

    @property
    def path(self) -> Path:
        """The trial's rows."""
        return self.job.out / f"rows-{self.number:04d}.jsonl"

    def close(self) -> None:
        """Nothing is kept in the process."""


def open_benchmark_trial(job: BenchmarkJob, number: int, parameters: dict[str, Any]) -> BenchmarkTrial:
    """Open a trial where its rows end."""
    trial = BenchmarkTrial(job, number, parameters["learning_rate"])
    if trial.path.exists():
        trial.history = [json.loads(line) for line in trial.path.read_text().splitlines()]
    return trial
