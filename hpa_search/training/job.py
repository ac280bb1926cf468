"""A search as its workers see it, and how a worker opens one of its trials."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpa_search.config import TrialConfig, Value
from hpa_search.data.external import External, JoinedImages, read_external
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import Split, read_split
from hpa_search.files import write_text
from hpa_search.labels import to_vector
from hpa_search.layout import SPLIT
from hpa_search.storage.data_cache import local_folder, localise
from hpa_search.storage.naming import naming
from hpa_search.storage.opened import opened
from hpa_search.storage.patience import OUTAGE_SECONDS
from hpa_search.storage.place import Location, Place
from hpa_search.training.device import choose_device, set_repeatable
from hpa_search.training.ranks import ALONE, Ranks
from hpa_search.training.score import ObjectiveMetric, Scorer
from hpa_search.training.stored_trial import StoredTrial, open_stored
from hpa_search.training.trainer import Trainer
from hpa_search.training.trial_data import TrialData


class Configures(Protocol):
    """The part of a search that a trial needs: it completes a configuration."""

    def trial_config(self, drawn: Mapping[str, Value]) -> TrialConfig:
        """Return the trial's whole configuration, from the settings ``drawn`` for it."""


@dataclass(frozen=True)
class Job:
    """A search as its workers see it: the places of data and results, and what all trials share.

    ``data``, ``out`` and ``external`` may be in object stores; ``cache`` is local to the node. ``epochs`` are the top rung's.
    ``classes`` are the label ids in macro AP. ``mean`` and ``std`` (4 each, in 0..1 units) are those of the training images.
    ``labels`` are the ids of the only labels to train, None for all 28. ``external`` is the folder of external images;
    ``external_rows`` are its training rows. ``repeatable`` is whether trials repeat to the bit on a GPU.
    """

    data: Location
    cache: Path
    out: Location
    epochs: int
    seed: int
    objective: ObjectiveMetric
    classes: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    space: Configures
    labels: tuple[int, ...] | None = None
    external: Location | None = None
    external_rows: tuple[int, ...] = ()
    repeatable: bool = True

    @property
    def judge(self) -> Scorer:
        """How the trials are scored."""
        only = None if self.labels is None else to_vector(self.labels)
        return Scorer(to_vector(self.classes), self.objective, only)


def trial_folder(out: Path, number: int) -> Path:
    """Return the folder of trial ``number`` in ``out``."""
    return out / trial_name(number)


def trial_name(number: int) -> str:
    """Return the name of a trial's folder in OUT."""
    return f"trials/{number:04d}"


def open_trial(
    job: Job, number: int, parameters: dict[str, Any], ranks: Ranks = ALONE, micro_batch: int | None = None
) -> Trainer | StoredTrial:
    """Open trial ``number`` at its last checkpoint. A process reads the dataset once, for all its trials.

    Several ``ranks`` that train the trial together must all call this, and see the same folder. ``micro_batch`` is the number
    of images at a time that their memory holds, once it ran out.

    device.txt in the trial's folder says where it runs, in what precision, and why. A worker's log is lost with Ray's
    session.
    """
    logging.basicConfig(level=logging.INFO)
    out = Place.of(job.out)

    def trainer(folder: Path) -> Trainer:
        return _trainer(job, number, parameters, folder, ranks, micro_batch)

    if out.is_local:
        return trainer(trial_folder(out.local, number))
    return open_stored(out / trial_name(number), job.cache, trainer, first=ranks.first)


def _trainer(job: Job, number: int, parameters: dict[str, Any], folder: Path, ranks: Ranks, micro_batch: int | None) -> Trainer:
    config, device = job.space.trial_config(parameters), choose_device()
    set_repeatable(job.repeatable)
    if ranks.first:
        others = f"{ranks.world} workers, the first of them on\n" if ranks.several else ""
        write_text(folder / "device.txt", f"{others}{where(job)}\n")
    return Trainer(
        config,
        trial_data(job, config.input_size),
        epochs=job.epochs,
        seed=int(np.random.SeedSequence([job.seed, number]).generate_state(1)[0]),
        folder=folder,
        judge=job.judge,
        device=device,
        ranks=ranks,
        micro_batch=micro_batch,
    )


def where(job: Job) -> str:
    """Return where this process trains the job's trials, in words."""
    device = choose_device()
    return f"{device}" if job.repeatable or device.device.type == "cpu" else f"{device}; with its fastest kernels"


def trial_data(job: Job, size: int) -> TrialData:
    """Return the data of the job's trials whose input is ``size`` pixels.

    External images are training rows after all others.
    """
    dataset, images, split = _load(Place.of(job.data), job.cache, Place.of(job.out))
    own = TrialData(
        images=images.at_size(size),
        labels=dataset.labels,
        train=split.train,
        validation=split.validation,
        mean=np.array(job.mean),
        std=np.array(job.std),
        groups=None if dataset.groups is None else np.array(dataset.groups),
    )
    return own if job.external is None else _with_external(job, own, images, size)


def _with_external(job: Job, own: TrialData, images: PackedImages, size: int) -> TrialData:
    assert job.external is not None
    external = _external(Place.of(job.external), images.size, job.cache)
    return replace(
        own,
        images=JoinedImages(images, external.images).at_size(size),
        labels=np.concatenate([own.labels, external.labels]),
        train=np.concatenate([own.train, len(own.labels) + np.array(job.external_rows, dtype=np.int64)]),
        groups=None if own.groups is None else np.concatenate([own.groups, np.array(external.images.ids)]),
    )


@lru_cache(maxsize=1)
def _external(place: Place, size: int, cache: Path) -> External:
    with naming(local_folder(place, cache), place):
        return read_external(localise(place, cache, first=OUTAGE_SECONDS), size, cache)


@lru_cache(maxsize=1)
def _load(data: Place, cache: Path, out: Place) -> tuple[Dataset, PackedImages, Split]:
    with naming(local_folder(data, cache), data):
        dataset = read_dataset(localise(data, cache, first=OUTAGE_SECONDS))
        images = pack(dataset.train_folder, dataset.ids, cache)
    with opened(out, cache, SPLIT, first=OUTAGE_SECONDS) as work:
        return dataset, images, read_split(work.folder / SPLIT, dataset.ids)
