"""What trials cost here: the first trials of a search, a few steps of each."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hpa_search.config import TrialConfig
from hpa_search.files import TEMPORARY
from hpa_search.plan.simulate import Cost
from hpa_search.search.suggestions import suggest
from hpa_search.space.search import Search
from hpa_search.training.checkpoint import CHECKPOINT
from hpa_search.training.device import set_repeatable
from hpa_search.training.job import Job, trial_data, where
from hpa_search.training.score import Scorer
from hpa_search.training.trainer import Trainer
from hpa_search.training.trial_data import TrialData

MOST_TRIALS = 8
STEPS = 4
"""Training steps of a probe, after as many to warm up."""


@dataclass(frozen=True)
class Probed:
    """A trial's configuration, what it costs, and the device that it was trained on, in words."""

    config: TrialConfig
    cost: Cost
    device: str = ""


def shape(config: TrialConfig) -> tuple[object, ...]:
    """Return the settings that decide what an epoch takes."""
    return config.backbone, config.resolution, config.input_size, config.channels, config.batch_size


def probe(
    job: Job, search: Search, slots: int, seconds: float, tell: Callable[[int, int], None] = lambda done, of: None
) -> tuple[Probed, ...]:
    """Train the first trials of ``search`` for a few steps, as many at a time as ``slots``: slots slow each other.

    No trial is begun after ``seconds``; one is at least. ``tell`` is called with the number of trials done and of all.
    """
    most = min(MOST_TRIALS, search.most_trials or MOST_TRIALS)
    at_a_time = min(slots, most)
    configs = [_config(search, number) for number in range(most)]
    found: list[Probed] = []
    began = time.monotonic()
    context = get_context("spawn")
    cards = context.Queue()
    for place in range(at_a_time):
        cards.put(place)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, int(search.resources.cpus))))
        with ProcessPoolExecutor(at_a_time, context, _begin, (cards, threads)) as pool:
            for first in range(0, most, at_a_time):
                these = range(first, min(first + at_a_time, most))
                costs = [pool.submit(_cost, job, configs[number], Path(folder) / str(number)) for number in these]
                found += [Probed(configs[number], *cost.result()) for number, cost in zip(these, costs, strict=True)]
                tell(len(found), most)
                if time.monotonic() - began > seconds:
                    break
    return tuple(found)


def _config(search: Search, number: int) -> TrialConfig:
    point = search.points[number] if number < len(search.points) else None
    return search.trial_config(suggest(search, number, (), start_point=point)[0])


def _begin(cards: "Queue[int]", threads: str) -> None:
    """Give a process the threads of a slot, and a GPU of its own where there are as many."""
    os.environ["OMP_NUM_THREADS"] = threads
    place = cards.get()
    if count := torch.cuda.device_count():
        torch.cuda.set_device(place % count)


def cost_like(probed: Sequence[Probed], config: TrialConfig) -> Cost:
    """Return the mean cost of the probed trials that are most like ``config``."""

    def alike(other: TrialConfig) -> tuple[bool, ...]:
        same = [getattr(other, name) == getattr(config, name) for name in ("backbone", "resolution", "input_size", "batch_size")]
        return (same[0] and same[2], *same)

    best = max(alike(one.config) for one in probed)
    costs = [one.cost for one in probed if alike(one.config) == best]
    return Cost(
        epoch=float(np.mean([one.epoch for one in costs])),
        start=float(np.mean([one.start for one in costs])),
        weights=int(np.mean([one.weights for one in costs])),
        checkpoint=int(np.mean([one.checkpoint for one in costs])),
    )


def _cost(job: Job, config: TrialConfig, folder: Path) -> tuple[Cost, str]:
    """Train two short epochs, and carry the second one up to the rows of a whole epoch."""
    set_repeatable(job.repeatable)
    whole = trial_data(job, config.input_size)
    few = _few(whole, STEPS * config.batch_size)
    judge = Scorer(_present(few, job.judge), job.judge.objective, job.judge.only)

    def opened() -> Trainer:
        return Trainer(config, few, epochs=job.epochs, seed=0, folder=folder, judge=judge)

    first = opened()
    first.run_epoch()
    first.close()
    began = time.perf_counter()
    trainer = opened()
    opening = time.perf_counter() - began
    began = time.perf_counter()
    metrics = trainer.run_epoch()
    saving = max(time.perf_counter() - began - metrics["seconds"], 0.0)
    trainer.close()
    training = len(few.train) / metrics["images_per_second"]
    judging = max(metrics["seconds"] - training - _scoring(judge, few), 0.0)
    epoch = training * len(whole.train) / len(few.train) + judging * len(whole.validation) / len(few.validation)
    weights = [path.stat().st_size for path in (folder / "weights").iterdir()]
    cost = Cost(
        epoch=epoch + _scoring(job.judge, whole) + saving,
        start=opening,
        weights=max(weights),
        checkpoint=(folder / CHECKPOINT).stat().st_size,
    )
    return cost, where(job)


def _few(data: TrialData, rows: int) -> TrialData:
    """Return so many training rows and as many validation rows, spread over all of them."""

    def spread(numbers: np.ndarray) -> np.ndarray:
        return numbers[np.linspace(0, len(numbers) - 1, min(rows, len(numbers))).astype(np.int64)]

    return replace(
        data, train=spread(data.train), validation=spread(data.validation) if len(data.validation) > rows else data.validation
    )


def _present(data: TrialData, judge: Scorer) -> NDArray[np.bool_]:
    """Return the classes of ``judge`` with a positive among the few validation rows, or any label that has one."""
    there = np.asarray(data.validation_labels.any(axis=0))
    if (judge.classes & there).any():
        return judge.classes & there
    return there if judge.only is None else there & judge.only


def _scoring(judge: Scorer, data: TrialData) -> float:
    """Return the seconds that the metrics of an epoch take."""
    labels = data.validation_labels
    logits = np.random.default_rng(0).normal(size=labels.shape)
    began = time.perf_counter()
    judge.score(logits, labels, *data.folding())
    return time.perf_counter() - began
