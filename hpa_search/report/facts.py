"""All that a report tells, read from the files of a search."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.manifest import MANIFEST, Manifest, read_manifest
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import Split, read_split
from hpa_search.errors import UserError
from hpa_search.figures.predictions import Predictions
from hpa_search.finish.measure import read_predictions
from hpa_search.labels import to_vector
from hpa_search.layout import PROVENANCE, SEARCH, SPLIT, TIMES
from hpa_search.ledger.importance import Importance, importances
from hpa_search.ledger.ledger import Ledger, TrialRecord
from hpa_search.ledger.status import state_of, trial_state
from hpa_search.ledger.times import read_times
from hpa_search.scoring.comparison import bootstrap_macro_ap
from hpa_search.scoring.intervals import Interval
from hpa_search.search.roster import Roster
from hpa_search.search.rungs import Rungs
from hpa_search.search.trial_files import WorkTrialFiles
from hpa_search.search.workspace import Provenance, read_workspace
from hpa_search.space.search import Search
from hpa_search.storage.data_cache import local_folder
from hpa_search.storage.opened import WorkingCopy
from hpa_search.storage.place import Location, Place
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import trial_folder, trial_name

RESULT = "result.json"
PARTS = {"test": "test", "out_of_fold": "out-of-fold", "validation": "validation"}
"""The rows whose predictions are told, the best first: in the name of their file, and in words."""
NEEDED = (
    SEARCH,
    PROVENANCE,
    SPLIT,
    TIMES,
    RESULT,
    "study.j*",
    "trials/*/metrics.csv",
    "*_predictions.npz",
    "bundle/*",
)
"""The files of a search in an object store that a report is made from; the logits of the best trials follow."""
SHOWN = 20
"""The number of trials in the leaderboard."""
JUDGED = 10
"""The number of trials in the leaderboard that get an interval."""
SAMPLES = 300
LEVEL = 0.90


@dataclass(frozen=True)
class TrialFacts:
    """A trial: its state, its parameters, the objective of each epoch, and the rows of its metrics.csv.

    ``expected`` is the score that the search expects of it at the top rung, None below the first rung.
    """

    number: int
    state: str
    ended: str
    parameters: Mapping[str, Any]
    reports: Mapping[int, float]
    metrics: tuple[Mapping[str, float], ...]
    expected: float | None

    @property
    def epochs(self) -> int:
        """The number of epochs done."""
        return max(self.reports, default=0)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best objective; of equals, the first. Only of a trial with a report."""
        return min(self.reports, key=lambda epoch: (-self.reports[epoch], epoch))

    @property
    def best(self) -> float:
        """The best objective, minus infinity without a report."""
        return max(self.reports.values(), default=-np.inf)

    @property
    def seconds(self) -> float:
        """Seconds spent in its epochs."""
        return sum(row.get("seconds", 0.0) for row in self.metrics)

    def at_best(self, metric: str) -> float | None:
        """Return a metric at the best epoch, None if it is not known."""
        found = [row.get(metric) for row in self.metrics if self.reports and row["epoch"] == self.best_epoch]
        return found[0] if found else None


@dataclass(frozen=True, eq=False)
class Judged(Predictions):
    """What the bundle says about the images of one ``part``: `test`, `validation`, or `out-of-fold`, all but the test rows.

    ``thresholds`` (28,) are on the probabilities.
    """

    part: str
    thresholds: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Facts:
    """A search as a report tells it.

    ``seconds`` were spent with a slot, and ``slot_seconds`` says on what, see `ledger.times`. ``result`` is result.json, None
    before the final stage. ``images`` are None if the dataset was not found. ``kept`` says what is on disk. ``intervals`` are
    those of the macro AP of the best trials at their best epochs, by number.
    """

    place: Place
    state: str
    seconds: float
    slot_seconds: Mapping[str, float]
    text: str
    search: Search
    provenance: Provenance
    split_sizes: Mapping[str, int]
    trials: tuple[TrialFacts, ...]
    importances: tuple[Importance, ...]
    intervals: Mapping[int, Interval]
    result: Mapping[str, Any] | None
    predictions: Judged | None
    images: PackedImages | None
    kept: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the 28 labels."""
        return self.provenance.labels

    @property
    def ranked(self) -> list[TrialFacts]:
        """The trials with a report that have not failed, the best first."""
        there = (trial for trial in self.trials if trial.reports and trial.state != "failed")
        return sorted(there, key=lambda trial: (-trial.best, trial.number))


def read_facts(work: WorkingCopy, cache: Path, data: Location | None = None) -> Facts:
    """Read the search in ``work``. ``data`` is the new place of a dataset that was moved.

    A mirror of an object store holds `NEEDED` already. Raises UserError without a search.
    """
    out = work.folder
    search, provenance = read_workspace(out)
    ledger = Ledger.open(out)
    records, noted = ledger.trials(), ledger.noted()
    state = state_of(out, noted)
    roster = Roster(Rungs(search.rungs, search.scheduler.eta))
    for record in records:
        roster.put(record)
    trials = tuple(_trial(out, record, roster, running=state == "running") for record in records)
    place = Place.of(data or provenance.data)
    labelled, result = _labelled(place, cache), _result(out / RESULT)
    manifest = _manifest(out) if result else None
    facts = Facts(
        place=work.place,
        state=state,
        seconds=noted.get("lease", {}).get("spent_seconds", 0.0),
        slot_seconds=read_times(out),
        text=(out / SEARCH).read_text(encoding="utf-8"),
        search=search,
        provenance=provenance,
        split_sizes=result["rows"] if result else {},
        trials=trials,
        importances=importances(ledger.frozen(), {trial.number: trial.expected for trial in trials}),
        intervals={},
        result=result,
        predictions=_predictions(out, manifest, result["labels"]) if result and manifest else None,
        images=labelled[1] if labelled else None,
        kept=WorkTrialFiles(work).in_words(),
    )
    return facts if labelled is None else _judged(facts, work, labelled[0])


def _trial(out: Path, record: TrialRecord, roster: Roster, *, running: bool) -> TrialFacts:
    path = trial_folder(out, record.number) / "metrics.csv"
    rows: tuple[Mapping[str, float], ...] = ()
    # A trial without metrics, or a damaged file: the ledger has the objectives.
    with suppress(OSError, ValueError), path.open(newline="", encoding="utf-8") as file:
        rows = tuple({name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file))
    state = trial_state(record, running=running)
    return TrialFacts(
        record.number, state, record.ended or "", record.parameters, record.reports, rows, roster.expected(record.number)
    )


def _labelled(place: Place, cache: Path) -> tuple[Dataset, PackedImages] | None:
    """Return the dataset at ``place`` and its images, None if it is not there any more."""
    try:
        dataset = read_dataset(local_folder(place, cache))
        return dataset, pack(dataset.train_folder, dataset.ids, cache)
    except (UserError, OSError):
        return None


def _result(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); `hpa-search finish` writes it again") from None
    return found


def _manifest(out: Path) -> Manifest | None:
    if not (out / "bundle" / MANIFEST).is_file():
        return None
    try:
        return read_manifest(out / "bundle")
    except UserError:
        return None


def _predictions(out: Path, manifest: Manifest, scored: Sequence[int]) -> Judged | None:
    for part, words in PARTS.items():
        with suppress(OSError, ValueError, KeyError, BadZipFile):  # not there, or damaged
            ids, labels, probabilities = read_predictions(out, part)
            rule = manifest.decision_rule
            found = Judged(ids, labels, probabilities, rule.decide(probabilities).labels, words, rule.thresholds)
            return found.only(to_vector(scored))
    return None


def _judged(facts: Facts, work: WorkingCopy, dataset: Dataset) -> Facts:
    """Return the facts with the intervals of the best trials, where their logits fit the rows."""
    out = work.folder
    split: Split = read_split(out / SPLIT, dataset.ids)
    rows = split.validation
    labels = dataset.labels[rows]
    groups = None if dataset.groups is None else np.array(dataset.groups)[rows]
    logits = {}
    for trial in facts.ranked[:JUDGED]:
        with suppress(UserError):  # a damaged file, of a trial that is told without an interval then
            work.fetch(f"{trial_name(trial.number)}/logits.npz")
            found = read_logits(trial_folder(out, trial.number)).get(trial.best_epoch)
            if found is not None and found.shape == labels.shape:
                logits[trial.number] = found.astype(np.float32)
    sizes = {"train": len(split.train), "validation": len(rows), "test": len(split.test)}
    classes = [label for label in facts.provenance.classes if labels[:, label].any()]
    if not logits or not classes:
        return replace(facts, split_sizes=sizes)
    drawn = bootstrap_macro_ap(_stack(logits.values(), classes), labels[:, classes], groups, SAMPLES, seed=0)
    intervals = {number: Interval.around(float(row[0]), row[1:], LEVEL) for number, row in zip(logits, drawn, strict=True)}
    return replace(facts, split_sizes=sizes, intervals=intervals)


def _stack(logits: Any, classes: Sequence[int]) -> NDArray[np.float32]:
    return np.stack(list(logits))[:, :, list(classes)]
