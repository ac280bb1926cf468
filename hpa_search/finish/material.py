"""What the final stage works on: the search, its data, and every trial's epochs whose weights exist."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import Split, read_split
from hpa_search.errors import UserError
from hpa_search.search.space import Search
from hpa_search.search.study import Facts, Ledger
from hpa_search.search.workspace import Provenance, read_workspace
from hpa_search.training.checkpoint import read_logits, weights_path
from hpa_search.training.job import SPLIT, trial_folder

MOST_CANDIDATES = 50


@dataclass(frozen=True, eq=False)
class Pool:
    """Candidates, best on the validation rows first, and their logits there: float32 (m, n, 28)."""

    candidates: tuple[Candidate, ...]
    logits: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Material:
    """A search as it lies in ``out``, with its data and its pool."""

    out: Path
    search: Search
    provenance: Provenance
    dataset: Dataset
    images: PackedImages
    split: Split
    pool: Pool

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the labels (n, 28) of ``rows``."""
        return self.dataset.labels[rows]

    def groups(self, rows: NDArray[np.int64]) -> NDArray[np.str_] | None:
        """Return the groups (n,) of ``rows``, None where the dataset has none."""
        return None if self.dataset.groups is None else np.array(self.dataset.groups)[rows]


def read_material(out: Path, cache: Path, data: Path | None) -> Material:
    """Read the search in ``out``; its dataset is at ``data`` if it was moved.

    Raises UserError if there is no search, the data is at fault, or no trial has finished an epoch.
    """
    search, provenance = read_workspace(out)
    dataset = read_dataset(data or Path(provenance.data))
    pool = _read_pool(out, search, Ledger.open(out).trials())
    images = pack(dataset.train_folder, dataset.ids, cache)
    return Material(out, search, provenance, dataset, images, read_split(out / SPLIT, dataset.ids), pool)


def _read_pool(out: Path, search: Search, trials: list[Facts]) -> Pool:
    found = [entry for facts in trials if facts.end != "failed" and facts.reports for entry in _epochs(out, search, facts)]
    if not found:
        raise UserError(
            f"{out}: no trial has finished an epoch, so there is nothing to choose from; "
            "see trials/*/error.txt, and run the search on"
        )
    found.sort(key=lambda entry: -entry[0])
    kept = found[:MOST_CANDIDATES]
    return Pool(tuple(candidate for _, candidate, _ in kept), np.stack([logits for *_, logits in kept]).astype(np.float32))


def _epochs(out: Path, search: Search, facts: Facts) -> Iterator[tuple[float, Candidate, NDArray[np.float16]]]:
    """Yield the objective, candidate and logits of each epoch of a trial whose weights exist."""
    folder = trial_folder(out, facts.number)
    logits = read_logits(folder)
    for epoch, objective in facts.reports.items():
        if (weights := weights_path(folder, epoch)).is_file():
            yield objective, Candidate(facts.number, epoch, search.trial_config(facts.parameters), weights), logits[epoch]
