"""What every trial of a search has in common, and how a worker opens one of them."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hpa_search.config import TrialConfig
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import Split, read_split
from hpa_search.files import write_text
from hpa_search.labels import to_vector
from hpa_search.training.device import choose_device
from hpa_search.training.trainer import Objective, Trainer, TrialData

SPLIT = "split.csv"


@dataclass(frozen=True)
class Job:
    """A search as its workers see it: where data and results are, and what all trials share.

    ``cache`` is local to the node. ``epochs`` are the top rung's, ``classes`` the label ids that macro AP averages,
    ``mean`` and ``std`` (4 each, in 0..1 units) those of the training images, ``fixed`` the settings that do not vary.
    """

    data: Path
    cache: Path
    out: Path
    epochs: int
    seed: int
    objective: Objective
    classes: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fixed: dict[str, Any]

    def config(self, parameters: dict[str, Any]) -> TrialConfig:
        """Return the whole configuration of the trial with these drawn parameters."""
        return TrialConfig.model_validate({**self.fixed, **parameters})


def trial_folder(out: Path, number: int) -> Path:
    """Return the folder of a trial."""
    return out / "trials" / f"{number:04d}"


def open_trial(job: Job, number: int, parameters: dict[str, Any]) -> Trainer:
    """Open trial ``number`` where its checkpoint left it. The dataset is read once a process and shared by its trials.

    device.txt in its folder says where and in what precision it runs, and why: a worker's log is gone with Ray's session.
    """
    logging.basicConfig(level=logging.INFO)
    dataset, images, split = _load(job.data, job.cache, job.out)
    config, folder = job.config(parameters), trial_folder(job.out, number)
    write_text(folder / "device.txt", f"{choose_device()}\n")
    data = TrialData(
        images=images.at_size(config.input_size),
        labels=dataset.labels,
        train=split.train,
        validation=split.validation,
        mean=np.array(job.mean),
        std=np.array(job.std),
        groups=None if dataset.groups is None else np.array(dataset.groups),
    )
    return Trainer(
        config,
        data,
        epochs=job.epochs,
        seed=int(np.random.SeedSequence([job.seed, number]).generate_state(1)[0]),
        folder=folder,
        classes=to_vector(job.classes),
        objective=job.objective,
    )


@lru_cache(maxsize=1)
def _load(data: Path, cache: Path, out: Path) -> tuple[Dataset, PackedImages, Split]:
    dataset = read_dataset(data)
    return dataset, pack(dataset.train_folder, dataset.ids, cache), read_split(out / SPLIT, dataset.ids)
