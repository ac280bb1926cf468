"""Runs a search whose trials are trained by two workers each: shared_search.py OUT CACHE DATA SETTINGS-as-JSON."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.engine.driver import Site, run_search
from hpa_search.engine.worker import Trials
from hpa_search.files import write_text
from hpa_search.models.build import Network
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search
from hpa_search.training.job import Job, open_trial, trial_folder
from hpa_search.training.ranks import ALONE, Ranks
from hpa_search.training.trainer import Trainer

SPACE = """
name: shared
fixed: {{full_size: 32, small_size: 32, batch_size: 17, backbone: test_resnet, optimizer: sgd, loss: soft_f1, augment: strong}}
space: {{learning_rate: {{choice: [0.1, 0.03, 0.01]}}}}
sampler: grid
scheduler: {{kind: none, max_epochs: 4}}
resources: {{slots: 1, workers: {workers}, cpus: 1, gpus: 0}}
"""


@dataclass(frozen=True)
class FaultyJob:
    """A job, how long an epoch takes at least, in which trials' second epoch the second worker raises, and in which its memory
    holds no more than four images at a time.
    """

    job: Job
    seconds: float = 0.0
    raises_in: tuple[int, ...] = ()
    starves_in: tuple[int, ...] = ()


@contextmanager
def memory_for(images: int) -> Iterator[None]:
    """Let a network in training fail that is given more images at a time."""

    def hook(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, Network) and module.training and len(inputs[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class FaultyTrial:
    def __init__(self, faulty: FaultyJob, number: int, ranks: Ranks, trial: Trainer) -> None:
        self._faulty, self._number, self._ranks, self._trial = faulty, number, ranks, trial
        self._starves = number in faulty.starves_in and ranks.rank == 1

    @property
    def history(self) -> Any:
        return self._trial.history

    def run_epoch(self) -> dict[str, Any]:
        if self._number in self._faulty.raises_in and self._ranks.rank == 1 and self._trial.epoch == 1:
            raise ValueError("the second worker raises")
        time.sleep(self._faulty.seconds)
        with memory_for(4 if self._starves and self._trial.epoch else sys.maxsize):
            return self._trial.run_epoch()

    def close(self) -> None:
        self._trial.close()


def open_faulty(
    faulty: FaultyJob, number: int, parameters: dict[str, Any], ranks: Ranks = ALONE, micro_batch: int | None = None
) -> FaultyTrial:
    trial = open_trial(faulty.job, number, parameters, ranks, micro_batch)
    write_text(trial_folder(faulty.job.out, number) / f"pid-{ranks.rank}", str(os.getpid()))
    return FaultyTrial(faulty, number, ranks, trial)


def prepared(out: Path, cache: Path, data: Path, workers: int) -> tuple[Any, Job]:
    text = SPACE.format(workers=workers)
    search, dataset = parse_search(text, "shared.yaml"), read_dataset(data)
    inputs = Inputs(dataset, pack(dataset.train_folder, dataset.ids, cache))
    return search, prepare(out, search, text, inputs, cache, print)


def main() -> None:
    out, cache, data = map(Path, sys.argv[1:4])
    search, job = prepared(out, cache, data, workers=2)
    faulty = FaultyJob(job, **json.loads(sys.argv[4]))
    sys.exit(0 if run_search(search, Site(out), Trials(open_faulty, faulty)) else 3)


if __name__ == "__main__":
    main()
