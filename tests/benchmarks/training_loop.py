"""The training loop on a CPU: what its input costs, and what the optimizer, the average of weights and the layout are worth.

    python tests/benchmarks/training_loop.py [--turns 7]

loop       images a second of the trainer's loop with images from the pack, against the same loop on one batch that is given again and
           again: ResNet-18, 128 px, batches of 16. Target: 0.97.
optimizer  an update of ResNet-50's weights by AdamW: fused, which is used, against torch's foreach and its loop over weights.
average    an update of the average of ResNet-50's weights: all at once, which is used, against a loop over weights.
layout     a training step of ResNet-18 and DenseNet-121, 128 px, batches of 8, channels last against channels first.

The ways take turns in one process; the median of the turns counts, and its ratio's spread is that of the turns. Exits with 1 if the
target is missed.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
from gpu_loops import Loop, Task, eager_step, full_loop, timed  # noqa: E402
from input_pipeline import write_dataset  # noqa: E402

from hpa_search.config import TrialConfig  # noqa: E402
from hpa_search.data.packed import PackedImages, pack  # noqa: E402
from hpa_search.training.averaging import AveragedNetwork  # noqa: E402
from hpa_search.training.device import Device  # noqa: E402

CPU = Device(torch.device("cpu"), torch.float32, False, "benchmark")
SIZE, IMAGES, TARGET = 128, 200, 0.97


class OneBatch:
    """Gives the same images whatever is asked for."""

    def __init__(self, images: PackedImages, most: int) -> None:
        self._images, self._batch = images, images.gather(np.arange(most))

    def __len__(self) -> int:
        return len(self._images)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Return the first images."""
        return self._batch[: len(rows)]


def task(images: Any, network: str, batch: int) -> Task:
    config = TrialConfig(
        backbone=network, resolution="gap", full_size=SIZE, channels="rgby", batch_size=batch, learning_rate=1e-4
    )
    return Task(config, CPU, images, np.random.default_rng(0).random((IMAGES, 28)) < 0.1)


def loops(images: PackedImages, folder: Path) -> dict[str, Loop]:
    return {
        "from the pack": full_loop(task(images, "resnet18", 16), folder / "pack"),
        "one batch again and again": full_loop(task(OneBatch(images, 16), "resnet18", 16), folder / "one"),
    }


def optimizers(images: PackedImages) -> dict[str, Loop]:
    found = {}
    for name, settings in (("fused", {"fused": True}), ("foreach", {"foreach": True}), ("loop", {"foreach": False})):
        weights = [
            parameter.detach().clone().requires_grad_() for parameter in task(images, "resnet50", 8).network().parameters()
        ]
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        found[name] = timed(CPU, torch.optim.AdamW(weights, lr=1e-4, **settings).step)
    return found


def averages(images: PackedImages) -> dict[str, Loop]:
    network = task(images, "resnet50", 8).network()
    average, other = AveragedNetwork(network, 0.99), AveragedNetwork(network, 0.99).network

    @torch.no_grad()
    def one_by_one() -> None:
        for kept, new in zip(other.state_dict().values(), network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 0.01)
            else:
                kept.copy_(new)

    return {"all at once": timed(CPU, average.update), "loop": timed(CPU, one_by_one)}


def layouts(images: PackedImages, network: str) -> dict[str, Loop]:
    first = task(images, network, 8)
    return {
        "channels last": eager_step(replace(first, device=replace(CPU, channels_last=True))),
        "channels first": eager_step(first),
    }


def take_turns(ways: dict[str, Loop], steps: int, turns: int) -> dict[str, list[float]]:
    """Return the seconds a step of each turn of each way."""
    for loop in ways.values():
        loop(2)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name, loop in list(ways.items())[:: 1 if turn % 2 else -1]:
            taken[name].append(loop(steps) / steps)
    return taken


def show(table: Table, what: str, taken: dict[str, list[float]]) -> float:
    """Add rows to the ``table``. Return by how much the first way is faster than the second."""
    own = next(iter(taken.values()))
    for name, seconds in taken.items():
        ratios = sorted(other / one for one, other in zip(own, seconds, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        table.add_row(what, name, f"{1000 * statistics.median(seconds):.1f}", "" if seconds is own else spread)
    other = list(taken.values())[1]
    return statistics.median(two / one for one, two in zip(own, other, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    table = Table("what", "way", "ms a step", "first way is faster by")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train").mkdir()
        images = pack(folder / "train", write_dataset(folder / "train", IMAGES), folder / "cache").at_size(SIZE)
        made: dict[str, tuple[Callable[[], dict[str, Loop]], int]] = {
            "loop": (partial(loops, images, folder), 8),
            "optimizer": (partial(optimizers, images), 10),
            "average": (partial(averages, images), 10),
            "layout, resnet18": (partial(layouts, images, "resnet18"), 4),
            "layout, densenet121": (partial(layouts, images, "densenet121"), 4),
        }
        faster = {what: show(table, what, take_turns(make(), steps, turns)) for what, (make, steps) in made.items()}
    console = Console(width=110)
    console.print(table)
    met = faster["loop"] >= TARGET
    console.print(
        f"the loop with real input reaches {faster['loop']:.3f} of the one without; target {TARGET}: {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
