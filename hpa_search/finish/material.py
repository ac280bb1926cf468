"""What the final stage works on: the search, its data, and every trial's epochs whose weights exist."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import Split, read_split
from hpa_search.errors import UserError
from hpa_search.finish.pool import Pool, best_on_top, joined
from hpa_search.labels import NUM_LABELS
from hpa_search.search.space import Search
from hpa_search.search.study import Facts, Ledger
from hpa_search.search.workspace import Provenance, read_workspace
from hpa_search.training.checkpoint import read_logits, read_objectives, weights_path
from hpa_search.training.job import SPLIT, trial_folder

MOST_CANDIDATES = 50

_Epoch = tuple[float, Candidate, NDArray[np.float16]]


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


def read_material(out: Path, cache: Path, data: Path | None, also: Sequence[Path], say: Callable[[str], None]) -> Material:
    """Read the search in ``out``, and the candidates of the searches ``also`` on the same split of the same data.

    The dataset is at ``data`` if it was moved. ``say`` is told of each trial whose files cannot be read, which is left out.
    Raises UserError if there is no search, the data is at fault, no trial has finished an epoch, or a search of ``also``
    is on other rows.
    """
    search, provenance = read_workspace(out)
    dataset = read_dataset(data or Path(provenance.data))
    split = read_split(out / SPLIT, dataset.ids)
    if len({place.resolve() for place in (out, *also)}) < 1 + len(also):
        raise UserError(f"--also: a search is named twice ({out} is among them already)")
    for other in also:
        _check_rows(out, other, provenance)
    pools = [_read_pool(place, dataset, split, say) for place in (out, *also)]
    images = pack(dataset.train_folder, dataset.ids, cache)
    pool = pools[0] if not also else best_on_top(joined(pools), dataset.labels[split.validation])
    return Material(out, search, provenance, dataset, images, split, pool)


def _check_rows(out: Path, other: Path, provenance: Provenance) -> None:
    there = read_workspace(other)[1]
    if there.fingerprint != provenance.fingerprint or (other / SPLIT).read_bytes() != (out / SPLIT).read_bytes():
        raise UserError(
            f"{other}: not on the same split of the same data as {out}, so their predictions cannot be combined; "
            "give both searches the same --data and the same `split`"
        )


def _read_pool(out: Path, dataset: Dataset, split: Split, say: Callable[[str], None]) -> Pool:
    search, provenance = read_workspace(out)
    trials = Ledger.open(out).trials()
    found: list[_Epoch] = []
    for facts in trials:
        folder = trial_folder(out, facts.number)
        if facts.end == "failed" or not (facts.reports or (folder / "checkpoint.pt").exists()):
            continue
        try:
            found += list(_epochs(folder, search, facts, len(split.validation)))
        except UserError as error:
            say(f"Trial {facts.number} is left out: {error}")
    if not found:
        raise UserError(
            f"{out}: no trial has finished an epoch, so there is nothing to choose from; "
            "see trials/*/error.txt, and run the search on"
        )
    found.sort(key=lambda entry: -entry[0])
    kept = found[:MOST_CANDIDATES]
    logits = np.stack([logits for *_, logits in kept]).astype(np.float32)
    trained, external = dataset.labels[split.train].any(axis=0), {}
    if provenance.external is not None:
        trained = trained | (np.array(provenance.external.positives) > 0)
        external = {search.name: provenance.external.model_dump(mode="json", include={"fingerprint", "images", "positives"})}
    return Pool(
        networks=tuple((candidate,) for _, candidate, _ in kept),
        rows=split.validation,
        judge=np.zeros_like(split.validation),
        logits=logits,
        classes=provenance.classes,
        trained=tuple(map(int, np.flatnonzero(trained))),
        external=external,
    )


def _epochs(folder: Path, search: Search, facts: Facts, rows: int) -> Iterator[_Epoch]:
    """Yield the objective, candidate and logits of each epoch of a trial whose weights exist.

    Not of the epochs in the ledger: a worker may have saved one more, and removed the weights of the one before,
    when the search was stopped.
    """
    objectives, logits = read_objectives(folder), read_logits(folder)
    for epoch in sorted(objectives.keys() & logits.keys()):
        if logits[epoch].shape != (rows, NUM_LABELS):
            raise UserError(f"{folder / 'logits.npz'}: epoch {epoch} has shape {logits[epoch].shape}, not {(rows, NUM_LABELS)}")
        if (weights := weights_path(folder, epoch)).is_file():
            config = search.trial_config(facts.parameters)
            candidate = Candidate(search.name, facts.number, epoch, config, weights, search.labels)
            yield objectives[epoch], candidate, logits[epoch]
