"""What a GPU makes of the training: that it is right there, and how near the full loop comes to the bare step.

    python tests/benchmarks/gpu.py [--device cuda] [--only correct,steps,slots] [--minutes 8] [--out rows.jsonl]

Needs neither Ray nor Optuna. With --device cpu everything runs at the smallest sizes, to show that it runs.

correct  trials of every augmentation, loss and optimizer; a step without a hidden wait of the host for the device; stop and resume
         to the same bits; memory that runs out and is halved; a network's logits against the CPU's; batches against the CPU's.
steps    images a second at 512 px and 4 channels, batches of 32, for each network: the full loop with input and augmentation from the
         packed images, against the step alone on one batch in the device's memory: eager, compiled, and as a CUDA graph; channels
         first; repeatable kernels; and the usual loop: PNG files, DataLoader, an augmentation for each image, autocast. The ways of
         a network take turns; the median of the turns counts. Compiled steps come last, as long as there is time.
slots    full loops of a small network in 1, 2 and 4 processes on one card.

Each result is printed, and appended to --out as a line of JSON. A part that fails is told with its traceback, and the others run.
Exits with 1 if anything failed.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
from gpu_loops import Loop, Task, autotuned, eager_step, full_loop, graphed_step, usual_loop  # noqa: E402
from gpu_trials import CHECKS  # noqa: E402
from input_pipeline import write_dataset  # noqa: E402

from hpa_search.config import TrialConfig  # noqa: E402
from hpa_search.data.packed import PackedImages, open_packed, pack  # noqa: E402
from hpa_search.training.device import Device, choose_device  # noqa: E402

PARTS = ("correct", "steps", "slots")
LEAST_FOR_COMPILED = 90
"""Seconds that must be left to compile a network: one takes about a minute."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured: the networks, the images' number and size, the batch, the steps of a turn, turns, seconds of a slot."""

    networks: tuple[str, ...] = ("resnet18", "densenet121", "convnext_tiny")
    images: int = 320
    size: int = 512
    batch: int = 32
    steps: int = 25
    turns: int = 3
    slot_network: str = "resnet18"
    slot_size: int = 128
    slot_steps: int = 200
    slots: tuple[int, ...] = (1, 2, 4)


SMALLEST = Sizes(
    ("test_resnet",),
    images=16,
    size=64,
    batch=4,
    steps=2,
    turns=2,
    slot_network="test_resnet",
    slot_size=32,
    slot_steps=2,
    slots=(1, 2),
)


class Results:
    """Prints each result and keeps it as a line of JSON."""

    def __init__(self, out: Path | None, minutes: float) -> None:
        self._out, self._ends = out, time.monotonic() + 60 * minutes
        self.failed = False

    @property
    def seconds_left(self) -> float:
        return self._ends - time.monotonic()

    def tell(self, part: str, what: str, **values: Any) -> None:
        shown = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        )
        print(f"{part}: {what}: {shown}", flush=True)
        if self._out is not None:
            with self._out.open("a") as file:
                file.write(json.dumps({"part": part, "what": what, **values}) + "\n")

    def attempt(self, part: str, what: str, work: Callable[[], Any]) -> Any:
        """Return what ``work`` does. Tell its traceback if it fails, and return None."""
        began = time.monotonic()
        try:
            return work()
        except Exception:
            self.failed = True
            self.tell(part, what, failed=traceback.format_exc(), after_seconds=time.monotonic() - began)
            return None


def check(results: Results, device: Device) -> None:
    for what, work in CHECKS.items():
        with tempfile.TemporaryDirectory() as folder:
            if (remark := results.attempt("correct", what, partial(work, device, Path(folder)))) is not None:
                results.tell("correct", what, found=remark)


def write_images(folder: Path, sizes: Sizes) -> tuple[PackedImages, list[str]]:
    """Write PNG files and pack them; return the pack and the ids."""
    files = folder / "train"
    files.mkdir()
    ids = write_dataset(files, sizes.images)
    return pack(files, ids, folder / "cache").at_size(sizes.size), ids


def configuration(network: str, size: int, batch: int) -> TrialConfig:
    return TrialConfig(
        backbone=network,
        resolution="gap",
        full_size=size,
        small_size=size,
        channels="rgby",
        batch_size=batch,
        optimizer="adamw",
        learning_rate=1e-4,
    )


def time_steps(results: Results, device: Device, sizes: Sizes, folder: Path, images: PackedImages, ids: list[str]) -> None:
    """Time the ways of each network in turns. Compiled steps are added once all else is measured."""
    labels = np.random.default_rng(0).random((len(images), 28)) < 0.1
    tasks = [Task(configuration(network, sizes.size, sizes.batch), device, images, labels) for network in sizes.networks]
    for task in tasks:
        take_turns(results, task, sizes, ways_of(task, folder, ids))
    for task in tasks:
        if device.device.type == "cuda" and results.seconds_left > LEAST_FOR_COMPILED:
            take_turns(
                results, task, sizes, {"compiled step, autotuned": Way(partial(eager_step, task, compiled=True), autotuned)}
            )
        else:
            results.tell("steps", f"{task.config.backbone}, compiled step", left_out="needs a GPU, and time")


@dataclass(frozen=True)
class Way:
    """A way to train: what makes its loop, and the setting of cuDNN in which it runs."""

    make: Callable[[], Loop]
    setting: Callable[[], AbstractContextManager[None]] = nullcontext

    def begin(self, steps: int) -> Loop:
        """Return the loop after its first ``steps``."""
        with self.setting():
            loop = self.make()
            loop(steps)
            return loop

    def run(self, loop: Loop, steps: int) -> float:
        with self.setting():
            return loop(steps)


def ways_of(task: Task, folder: Path, ids: list[str]) -> dict[str, Way]:
    """Return the ways to train ``task``, by their names. ``folder`` holds the PNG files of ``ids``, and takes the trials."""
    name, device = task.config.backbone, task.device
    other = replace(task, device=replace(device, channels_last=not device.channels_last))
    ways = {
        "full loop": Way(partial(full_loop, task, folder / f"repeatable-{name}")),
        "full loop, autotuned": Way(partial(full_loop, task, folder / f"autotuned-{name}"), autotuned),
        "step on one batch": Way(partial(eager_step, task)),
        "step on one batch, autotuned": Way(partial(eager_step, task), autotuned),
        f"step on one batch, channels {'first' if device.channels_last else 'last'}, autotuned": Way(
            partial(eager_step, other), autotuned
        ),
        "usual loop": Way(partial(usual_loop, task, folder / "train", ids, len(os.sched_getaffinity(0))), autotuned),
    }
    if device.device.type == "cuda":
        ways["step as a CUDA graph, autotuned"] = Way(partial(graphed_step, task), autotuned)
    return ways


def take_turns(results: Results, task: Task, sizes: Sizes, ways: dict[str, Way]) -> None:
    """Time each way in turn, and tell its images a second: the median of the turns, the least and the most."""
    network, loops, seconds = task.config.backbone, dict[str, Loop](), {name: list[float]() for name in ways}
    for name, way in ways.items():
        began = time.monotonic()
        loop = results.attempt("steps", f"{network}, {name}", partial(way.begin, max(3, sizes.steps // 5)))
        if loop is not None:
            loops[name] = loop
            results.tell("steps", f"{network}, {name}", began_in_seconds=time.monotonic() - began)
    for _ in range(sizes.turns):
        for name, loop in loops.items():
            took = results.attempt("steps", f"{network}, {name}", partial(ways[name].run, loop, sizes.steps))
            seconds[name] += [] if took is None else [took]
    for name, taken in seconds.items():
        if taken:
            rates = sorted(sizes.steps * sizes.batch / one for one in taken)
            results.tell("steps", f"{network}, {name}", images_a_second=statistics.median(rates), least=rates[0], most=rates[-1])


def train_in_slot(kind: str, sizes: Sizes, path: str, number: int, barrier: Any, times: Any) -> None:
    """Train a full loop when all slots are ready, and say when it began and ended."""
    device = choose_device() if kind == "cuda" else Device(torch.device("cpu"), torch.float32, False, "asked for")
    images = open_packed(Path(path))
    labels = np.random.default_rng(0).random((len(images), 28)) < 0.1
    with tempfile.TemporaryDirectory() as folder:
        loop = full_loop(
            Task(configuration(sizes.slot_network, sizes.slot_size, sizes.batch), device, images, labels), Path(folder)
        )
        loop(sizes.slot_steps)
        barrier.wait(120)
        times[2 * number] = time.monotonic()  # one clock for all processes
        loop(sizes.slot_steps)
        times[2 * number + 1] = time.monotonic()


def share_card(results: Results, kind: str, sizes: Sizes, images: PackedImages) -> None:
    context, path = multiprocessing.get_context("spawn"), str(images.at_size(sizes.slot_size).path)
    for slots in sizes.slots:
        barrier, times = context.Barrier(slots), context.Array("d", 2 * slots)
        processes = [
            context.Process(target=train_in_slot, args=(kind, sizes, path, number, barrier, times)) for number in range(slots)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError(f"of {slots} slots, {[process.exitcode for process in processes]} are the exit codes")
        seconds = max(times[1::2]) - min(times[::2])
        rate = slots * sizes.slot_steps * sizes.batch / seconds
        results.tell("slots", f"{slots} on one device, {sizes.slot_network} at {sizes.slot_size} px", images_a_second=rate)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=8, help="Compiled steps are left out where these are nearly over.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is visible; --device cpu shows that the script runs")
    device = choose_device() if options.device == "cuda" else Device(torch.device("cpu"), torch.float32, False, "asked for")
    results, sizes = Results(options.out, options.minutes), Sizes() if options.device == "cuda" else SMALLEST
    results.tell(
        "machine",
        str(device),
        torch=torch.__version__,
        cudnn=str(torch.backends.cudnn.version()),
        cores=len(os.sched_getaffinity(0)),
    )
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only {', '.join(sorted(unknown))}: give one or more of {', '.join(PARTS)}")
    if "correct" in parts:
        check(results, device)
    with tempfile.TemporaryDirectory() as folder:
        if {"steps", "slots"} & set(parts):
            images, ids = write_images(Path(folder), sizes)
            if "slots" in parts:
                results.attempt("slots", "all", lambda: share_card(results, options.device, sizes, images))
            if "steps" in parts:
                results.attempt("steps", "all", lambda: time_steps(results, device, sizes, Path(folder), images, ids))
    return int(results.failed)


if __name__ == "__main__":
    sys.exit(main())
