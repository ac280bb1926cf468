"""A whole search by three ways, from the start of the process to its end: this software, Ray's documented recipe, plain Optuna.

    python tests/benchmarks/whole_search.py [--epochs 48] [--images 240] [--turns 1]

The same space, images, networks, rungs and number of epochs, two trials at a time (Optuna: one, in one process):

hpa-search   the command `hpa-search run`: promotion, packed images, checkpoints, TensorBoard, ledger; without the final stage's ONNX graph
recipe       a Tune function that calls TorchTrainer.fit(), with OptunaSearch, ASHAScheduler and a DataLoader of the PNG files
optuna       study.optimize with SuccessiveHalvingPruner, and the same DataLoader

Told are the seconds until the last epoch and until the process ends, and until the objective was reached that the least of the three
reached at the end. Exits with 1 if this software is not three times as fast as the recipe, by the seconds of the process an epoch: the
recipe may do a few epochs more, which run when the last of the number is done.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
TARGET = 3
SPACE = """
name: whole
seed: 1
fixed: {{backbone: resnet18, resolution: downsize, small_size: 64, channels: rgby, batch_size: 16, optimizer: adamw, schedule: constant, augment: dihedral, weight_decay: 0.01}}
space:
  learning_rate: {{log_range: [1.0e-4, 1.0e-2]}}
  dropout: {{range: [0.0, 0.5]}}
objective: {{metric: macro_ap, min_positives: 3}}
split: {{train: 0.75, validation: 0.25}}
budget: {{epochs: {epochs}}}
scheduler: {{min_epochs: 1, max_epochs: 9, eta: 3}}
resources: {{slots: 2, cpus: 1, gpus: 0}}
final: {{members: 1, onnx: false}}
"""


@dataclass(frozen=True)
class Run:
    """The seconds and the objective of each epoch, in order, and the seconds until the process ended."""

    epochs: tuple[tuple[float, float], ...]
    ended: float

    @property
    def pace(self) -> float:
        """Seconds an epoch, with the start and the end of the process."""
        return self.ended / len(self.epochs)

    @property
    def best(self) -> float:
        return max(score for _, score in self.epochs)

    def reached(self, score: float) -> float:
        """Return after how many seconds ``score`` was reached."""
        return next(seconds for seconds, found in self.epochs if found >= score)


def command(arguments: list[str], log: Path) -> float:
    """Run a process to its end; return its seconds."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with log.open("w") as output:
        subprocess.run(arguments, check=True, stdout=output, stderr=output, env=environment)
    return time.monotonic() - began


def hpa_search(folder: Path, data: Path, epochs: int) -> Run:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    space, out = folder / "space.yaml", folder / "out"
    space.write_text(SPACE.format(epochs=epochs))
    began = time.time()
    run = [
        sys.executable,
        "-m",
        "hpa_search.cli",
        "run",
        str(space),
        "--data",
        str(data),
        "--out",
        str(out),
        "--cache",
        str(folder / "cache"),
    ]
    ended = command(run, folder / "log")
    found = []
    for trial in sorted((out / "tensorboard").glob("[0-9]*")):
        found += [(event.wall_time - began, event.value) for event in EventAccumulator(str(trial)).Reload().Scalars("objective")]
    return Run(tuple(sorted(found)), ended)


def peer(name: str, folder: Path, data: Path, split: Path, epochs: int) -> Run:
    began, told = time.time(), folder / "epochs.jsonl"
    run = [
        sys.executable,
        str(Path(__file__).with_name("whole_search_peers.py")),
        name,
        str(data),
        str(split),
        str(told),
        str(epochs),
    ]
    ended = command(run, folder / "log")
    rows = [json.loads(line) for line in told.read_text().splitlines()]
    return Run(tuple(sorted((row["time"] - began, row["objective"]) for row in rows)), ended)


def show(runs: Mapping[str, list[Run]]) -> bool:
    table = Table(
        "way",
        "epochs",
        "s to the last epoch",
        "s to its end",
        "s an epoch",
        "best",
        "s to the common objective",
        "s an epoch, times ours",
    )
    met = True
    for turn in range(len(next(iter(runs.values())))):
        of_turn = {name: found[turn] for name, found in runs.items()}
        common = min(run.best for run in of_turn.values())
        ours = of_turn["hpa-search"].pace
        for name, run in of_turn.items():
            table.add_row(
                *(
                    name,
                    str(len(run.epochs)),
                    f"{run.epochs[-1][0]:.0f}",
                    f"{run.ended:.0f}",
                    f"{run.pace:.2f}",
                ),
                *(f"{run.best:.3f}", f"{run.reached(common):.0f}", f"{run.pace / ours:.2f}"),
            )
        met &= of_turn["recipe"].pace >= TARGET * of_turn["hpa-search"].pace
    Console(width=140).print(table)
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="whole-search-"))
    data = root / "data"
    phantom = [
        "data",
        "phantom",
        str(data),
        "--images",
        str(options.images),
        "--test-images",
        "0",
        "--size",
        "128",
        "--seed",
        "1",
        "--lift",
        "24",
    ]
    command([sys.executable, "-m", "hpa_search.cli", *phantom], root / "log")
    runs: dict[str, list[Run]] = {"hpa-search": [], "recipe": [], "optuna, one core": []}
    for turn in range(options.turns):
        for name, found in runs.items():
            folder = root / f"{name.partition(',')[0]}{turn}"
            folder.mkdir()
            split = root / "hpa-search0/out/split.csv"
            found.append(
                hpa_search(folder, data, options.epochs)
                if name == "hpa-search"
                else peer(name.partition(",")[0], folder, data, split, options.epochs)
            )
    met = show(runs)
    print(f"files in {root}; target {TARGET} times the recipe's speed: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
