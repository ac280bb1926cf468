"""Read what the final stage works on: the search, its data, and its candidates."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.bundle.predict import NetworkFile
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import Split, read_split
from hpa_search.errors import UserError
from hpa_search.finish.pool import Pool, best_on_top, joined
from hpa_search.finish.predicts import Here, Predicts
from hpa_search.labels import NUM_LABELS
from hpa_search.layout import PROVENANCE, SEARCH, SPLIT
from hpa_search.ledger.ledger import Ledger, TrialRecord
from hpa_search.search.shelf import MOST_CANDIDATES
from hpa_search.search.workspace import Provenance, read_workspace
from hpa_search.space.search import Search
from hpa_search.storage.data_cache import localised
from hpa_search.storage.opened import WorkingCopy
from hpa_search.storage.patience import OUTAGE_SECONDS
from hpa_search.storage.place import Location, Place
from hpa_search.training.checkpoint import read_logits, read_objectives, weights_path
from hpa_search.training.job import trial_folder

NEEDED = (SEARCH, PROVENANCE, SPLIT, "study.j*", "trials/*/metrics.csv", "trials/*/logits.npz")
"""The files of a search in an object store that the choice fetches; the weights of the chosen members follow."""

_Epoch = tuple[float, Candidate, NDArray[np.float16]]


@dataclass(frozen=True, eq=False)
class Material:
    """The search in ``work`` with its data and its pool of candidates.

    The dataset came from ``data``. ``others`` are further searches with candidates in the pool. ``predicts`` computes the logits of
    networks.
    """

    work: WorkingCopy
    search: Search
    provenance: Provenance
    dataset: Dataset
    images: PackedImages
    split: Split
    pool: Pool
    data: Place
    predicts: Predicts
    others: tuple[WorkingCopy, ...] = ()

    @property
    def out(self) -> Path:
        """The folder of the search, or its mirror."""
        return self.work.folder

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the labels (n, 28) of ``rows``."""
        return self.dataset.labels[rows]

    def groups(self, rows: NDArray[np.int64]) -> NDArray[np.str_] | None:
        """Return the groups (n,) of ``rows``, None for a dataset without groups."""
        return None if self.dataset.groups is None else np.array(self.dataset.groups)[rows]

    def network(self, candidate: Candidate) -> NetworkFile:
        """Return the network of a candidate. Its weights may have to be obtained first."""
        return NetworkFile(candidate.config, candidate.weights, self.provenance.mean, self.provenance.std)

    def obtain(self, entries: Sequence[int]) -> None:
        """Fetch the weights of these entries of the pool from the stores of their searches."""
        paths = [one.weights for entry in entries for one in self.pool.networks[entry]]
        for work in (self.work, *self.others):
            work.obtain([path for path in paths if path.is_relative_to(work.folder)])


def read_material(
    out: WorkingCopy | Path, cache: Path, data: Location | None, also: Sequence[WorkingCopy | Path], say: Callable[[str], None]
) -> Material:
    """Read the search in ``out``, and the candidates of the searches ``also``.

    All of them are on the same split of the same data. A mirror of an object store holds `NEEDED` already. ``data`` is the
    new place of a dataset that was moved. A trial with a file that cannot be read is left out. ``say`` gets a line about it.
    Raises UserError without a search, for data at fault, and if no trial has finished an epoch. Raises UserError for a search
    of ``also`` on other rows.
    """
    work, others = WorkingCopy.of(out), [WorkingCopy.of(other) for other in also]
    search, provenance = read_workspace(work.folder)
    place = Place.of(data or provenance.data)
    with localised(place, cache, say=say) as root:
        dataset = read_dataset(root)
        images = pack(dataset.train_folder, dataset.ids, cache)
    split = read_split(work.folder / SPLIT, dataset.ids)
    if len({str(one.place.resolve()) for one in (work, *others)}) < 1 + len(others):
        raise UserError(
            f"--also: a search is named twice; leave out {work.place}, which OUT names, and name every other search once"
        )
    for other in others:
        _check_rows(work.folder, other.folder, provenance)
    pools = [_read_pool(one, dataset, split, say) for one in (work, *others)]
    pool = pools[0] if not others else best_on_top(joined(pools), dataset.labels[split.validation])
    here = Here(dataset, images, cache)
    return Material(work, search, provenance, dataset, images, split, pool, place, here, tuple(others))


def _check_rows(out: Path, other: Path, provenance: Provenance) -> None:
    there = read_workspace(other)[1]
    if there.fingerprint != provenance.fingerprint or (other / SPLIT).read_bytes() != (out / SPLIT).read_bytes():
        raise UserError(
            f"{other}: not on the same split of the same data as {out}, so the predictions of both cannot be combined; "
            "give both searches the same --data and the same `split`"
        )


def _read_pool(work: WorkingCopy, dataset: Dataset, split: Split, say: Callable[[str], None]) -> Pool:
    out = work.folder
    search, provenance = read_workspace(out)
    trials = Ledger.open(out, seconds=OUTAGE_SECONDS, tell=say).trials()
    found: list[_Epoch] = []
    faults: list[str] = []
    for facts in trials:
        folder = trial_folder(out, facts.number)
        if facts.end == "failed" or not (facts.reports or work.has(folder / "checkpoint.pt")):
            continue
        try:
            found += list(_epochs(work, search, facts, len(split.validation)))
        except UserError as error:
            faults.append(f"Trial {facts.number} is left out: {error}")
            say(faults[-1])
    if not found:
        if faults:
            raise UserError(f"{out}: every trial is left out, so there is nothing to choose from; the first fault:\n{faults[0]}")
        raise UserError(
            f"{out}: no trial has finished an epoch, so there is nothing to choose from; "
            "see trials/*/error.txt, and resume the search"
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
        predictor=np.zeros_like(split.validation),
        logits=logits,
        classes=provenance.classes,
        trained=tuple(map(int, np.flatnonzero(trained))),
        external=external,
    )


def _epochs(work: WorkingCopy, search: Search, facts: TrialRecord, rows: int) -> Iterator[_Epoch]:
    """Yield the objective, candidate and logits of each epoch whose weights exist.

    Raises UserError for logits of another shape, and for files that cannot be read.
    """
    folder = trial_folder(work.folder, facts.number)
    # The ledger may lack the last epoch: a worker saves an epoch, and removes the weights before it, ahead of the report.
    objectives, logits = read_objectives(folder), read_logits(folder)
    for epoch in sorted(objectives.keys() & logits.keys()):
        if logits[epoch].shape != (rows, NUM_LABELS):
            raise UserError(f"{folder / 'logits.npz'}: epoch {epoch} has shape {logits[epoch].shape}, not {(rows, NUM_LABELS)}")
        if work.has(weights := weights_path(folder, epoch)):
            config = search.trial_config(facts.parameters)
            candidate = Candidate(search.name, facts.number, epoch, config, weights, search.labels)
            yield objectives[epoch], candidate, logits[epoch]
