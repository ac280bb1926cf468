"""Does every published system run? Each file of search_spaces/published trains for one epoch on 32 phantom images.

python tests/benchmarks/published.py [NAME ...] [--folder DIR]      (`make published`; about 15 minutes on 2 cores)

Every point of every file trains by the trainer itself, without a cluster: at its own input size, with its own batch size
where 32 images hold it, what it freezes frozen, and random weights where it asks for pretrained ones. A second stage is
trained too. One table: what was reported, where, the size of the network, and the seconds of a step on this machine. No
score of this run is printed: it would say nothing. Exits with 1 if one fails.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hpa_search.config import CONDITIONS, TrialConfig
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import make_split
from hpa_search.data.statistics import channel_statistics
from hpa_search.labels import to_vector
from hpa_search.models.build import parameters
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.reading import read_search
from hpa_search.space.search import Search
from hpa_search.training.score import Scorer
from hpa_search.training.trainer import Trainer
from hpa_search.training.trial_data import TrialData

FILES = Path(__file__).parents[2] / "search_spaces" / "published"
IMAGES, SIZE, LIFT = 64, 512, 2
WINNERS = 4
"""The largest batch of the winners' files, which are not the reports': DenseNet at 512 px takes 0.7 GB of each image."""


@dataclass(frozen=True)
class Phantom:
    """Images of 512 px, of which half train and half judge."""

    dataset: Dataset
    images: PackedImages

    def data(self, size: int) -> TrialData:
        """Return them at ``size`` pixels."""
        split = make_split(self.dataset.labels, None, (0.5, 0.5, 0.0), seed=0)
        mean, std = channel_statistics(self.images, split.train)
        return TrialData(self.images.at_size(size), self.dataset.labels, split.train, split.validation, mean, std)


@dataclass(frozen=True)
class Case:
    """A point of a file: what it says of itself, and the epochs that its trainer is told, of which one is trained."""

    search: Search
    what: str
    config: TrialConfig
    epochs: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as s0-b1; all if none is named")
    parser.add_argument("--folder", type=Path, default=FILES, help="where the files are")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)  # one network at a time has the whole machine
    files = [options.folder / f"{name}.yaml" for name in options.names] or sorted(options.folder.glob("*.yaml"))
    cases = [case for file in files for case in _cases(read_search(file)[0])]
    table = Table("system", "reported", "protocol", "varied", "parameters, M", "input, px", "batch", "s a step", show_lines=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        phantom = _phantom(Path(folder))
        for number, case in enumerate(cases):
            started = time.monotonic()
            try:
                row = _train(case, phantom, Path(folder) / str(number))
            except Exception as error:
                traceback.print_exc()
                row, failed = [f"FAILED: {error}"], failed + 1
            print(f"{case.search.name} {case.what}: {time.monotonic() - started:.0f} s", flush=True)
            table.add_row(*_told(case), *row)
    console = Console()
    Console(width=max(160, console.width)).print(table)
    print(
        f"Reported are the scores of others, by their own protocols. No score of this run is printed: {IMAGES // 2} phantom images "
        f"show that a system runs, not how good it is. {len(cases) - failed} of {len(cases)} ran."
    )
    return 1 if failed else 0


def _cases(search: Search) -> Iterator[Case]:
    for point in search.points or ({},):
        config = _runnable(search, search.trial_config(point))
        what = ", ".join(f"{name} {value}" for name, value in point.items())
        yield Case(search, what, config, search.scheduler.max_epochs)
        if config.last_epochs:
            # A trial of no more epochs than its second stage has nothing before it.
            yield Case(search, f"{what} second stage".strip(), config, config.last_epochs)


def _largest_batch(search: Search) -> int:
    return WINNERS if search.name.startswith("winner") else IMAGES // 2


def _runnable(search: Search, config: TrialConfig) -> TrialConfig:
    """Return ``config`` with random weights, and batches and epochs that 32 images can fill."""
    changes = {"weights": "none", "batch_size": min(config.batch_size, _largest_batch(search)), "steps_per_epoch": None}
    kept = {
        name: value
        for name, value in config.model_dump().items()
        if name not in CONDITIONS or CONDITIONS[name].parent != "weights"
    }
    return TrialConfig.model_validate({**kept, **changes})


def _phantom(folder: Path) -> Phantom:
    make_phantom(folder / "phantom", images=IMAGES, size=SIZE, seed=0, lift=LIFT, test_images=1)
    dataset = read_dataset(folder / "phantom")
    return Phantom(dataset, pack(dataset.train_folder, dataset.ids, folder / "cache"))


def _train(case: Case, phantom: Phantom, folder: Path) -> list[str]:
    """Train one epoch; return the cells of the table that it decides."""
    config, data = case.config, phantom.data(case.config.input_size)
    classes = np.asarray(data.train_labels.any(axis=0) & data.validation_labels.any(axis=0))
    only = None if case.search.labels is None else to_vector(case.search.labels)
    metric = case.search.objective.metric
    judged = classes if only is None else np.logical_and(classes, only)
    trainer = Trainer(config, data, epochs=case.epochs, seed=0, folder=folder, judge=Scorer(judged, metric, only))
    size = parameters(trainer.network) / 1e6
    metrics = trainer.run_epoch()
    trainer.close()
    assert np.isfinite(metrics["objective"])
    step = config.batch_size / metrics["images_per_second"]
    return [f"{size:.2f}", str(config.input_size), str(config.batch_size), f"{step:.2f}"]


def _told(case: Case) -> tuple[str, str, str, str]:
    about = case.search.about
    assert about is not None, f"{case.search.name} says nothing of where it comes from"
    return about.system, about.reported, about.protocol, case.what


if __name__ == "__main__":
    sys.exit(main())
