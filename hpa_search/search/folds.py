"""A search without one fold: it trains given configurations of another search for given epochs, and chooses nothing.

Its split is the other search's, with another fold for validation. So each row outside test is scored once by a network that
has not trained on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpa_search.config import Value
from hpa_search.data.splits import Split
from hpa_search.errors import UserError
from hpa_search.files import write_text
from hpa_search.labels import LABELS, to_vector
from hpa_search.ledger.journal import JOURNAL, cut_torn_line
from hpa_search.ledger.ledger import Ledger, TrialRecord
from hpa_search.ledger.status import read_status
from hpa_search.ledger.study_place import choose_study
from hpa_search.search.workspace import (
    CHANGEABLE,
    LEAST_VALIDATION,
    PROVENANCE,
    SEARCH,
    Inputs,
    Provenance,
    external_rows,
    make_job,
    provenance_of,
    read_workspace,
    write_workspace,
)
from hpa_search.space.search import Search
from hpa_search.space.yaml_file import dump_mapping
from hpa_search.storage.place import Location, Place
from hpa_search.training.job import Job

LONGEST_NAME = 64


@dataclass(frozen=True)
class FoldTrial:
    """A configuration, as its drawn values, and the epochs to train it for."""

    parameters: Mapping[str, Value]
    epochs: int


@dataclass(frozen=True, eq=False)
class FoldSearch:
    """A search without ``fold``, ready in ``out``, which is ``place`` or a mirror of it.

    ``numbers`` are the trial numbers of the wanted trials, in the order in which they were wanted.
    """

    fold: int
    out: Path
    search: Search
    job: Job
    numbers: tuple[int, ...]
    place: Place

    def facts(self) -> list[TrialRecord]:
        """Return the ledger's records of its trials, by number. Trials that have not begun are missing."""
        return _trials(self.out, self.search)

    @property
    def done(self) -> bool:
        """Whether every wanted trial has ended, by success or failure."""
        ended = {facts.number for facts in self.facts() if facts.end is not None}
        return ended.issuperset(self.numbers)


def fold_search(parent: Search, fold: int, trials: Sequence[FoldTrial]) -> Search:
    """Return the search that trains ``trials`` of ``parent`` without ``fold``, each to its epochs and none stopped early.

    Learning-rate schedules span the parent's ``max_epochs``. Each fold has a seed of its own.
    """
    content = parent.model_dump(exclude_unset=True, exclude={"about", "final"})
    suffix = f"-fold-{fold}"
    settings = {
        "name": parent.name[: LONGEST_NAME - len(suffix)] + suffix,
        "seed": (parent.seed + fold) % 2**31,
        "sampler": "random",
        "start_points": tuple(dict(trial.parameters) for trial in trials),
        "split": {**content.get("split", {}), "fold": fold},
        "budget": {"trials": len(trials)},
        "scheduler": {
            "kind": "none",
            "max_epochs": parent.scheduler.max_epochs,
            "point_epochs": tuple(trial.epochs for trial in trials),
        },
    }
    return Search.model_validate({**content, **settings})


def search_text(search: Search, parent: Search) -> str:
    """Return the text of the file of a search from `fold_search`."""
    comment = (
        f"# Made by `hpa-search finish --folds`: members of the search {parent.name}, trained without fold {search.split.fold}.\n"
    )
    return comment + dump_mapping(search.model_dump(exclude_unset=True))


def trials_of(search: Search) -> tuple[FoldTrial, ...]:
    """Return the trials of a search from `fold_search`."""
    ends = search.scheduler.point_epochs or ()
    return tuple(FoldTrial(point, epochs) for point, epochs in zip(search.start_points, ends, strict=True))


def place(
    wanted: Sequence[FoldTrial], there: Sequence[FoldTrial], failed: frozenset[int]
) -> tuple[tuple[int, ...], tuple[FoldTrial, ...]]:
    """Return the trial numbers of ``wanted``, and all trials: those ``there``, then the missing ones.

    Two equal wanted trials get a trial each. A ``failed`` trial is retried as a new trial, and so with another seed.
    """
    free = [number for number in range(len(there)) if number not in failed]
    numbers, trials = [], list(there)
    for trial in wanted:
        number = next((number for number in free if there[number] == trial), None)
        if number is None:
            number = len(trials)
            trials.append(trial)
        else:
            free.remove(number)
        numbers.append(number)
    return tuple(numbers), tuple(trials)


def prepare_fold(
    out: Path,
    fold: int,
    wanted: Sequence[FoldTrial],
    *,
    parent: tuple[Search, Provenance],
    split: Split,
    inputs: Inputs,
    cache: Path,
    study: str | None = None,
    lies: Location | None = None,
) -> FoldSearch:
    """Make ``out`` ready to train ``wanted``, trials of the search ``parent`` with its ``split``, without ``fold``.

    Trials that ``out`` has trained already are kept and used, even if other trials were wanted then. The images' mean and std
    are the parent's. ``study`` is the URL of a database for the ledger. ``lies`` is the place that ``out`` mirrors, where
    workers find it; None if ``out`` is not a mirror.

    Raises UserError if ``out`` holds something else, or if a driver there does not know the new trials. Also if the fold has
    too few images or no positives.
    """
    original, origin = parent
    there, failed = _there(out, fold, original)
    numbers, trials = place(wanted, there, failed)
    search = fold_search(original, fold, trials)
    text = search_text(search, original)
    if not (out / PROVENANCE).is_file():
        choose_study(out, study, search.name)
        turned = split.judged_by(fold)
        classes = _classes(fold, original, origin, inputs.dataset.labels[turned.validation])
        external, statistics = external_rows(inputs, turned), (origin.mean, origin.std)
        provenance = provenance_of(inputs, origin.fingerprint, classes, statistics, external)
        write_workspace(out, text, inputs.dataset.ids, turned, provenance)
    elif (out / SEARCH).read_text(encoding="utf-8") != text:
        _check_idle(out)
        write_text(out / SEARCH, text)
    search, provenance = read_workspace(out)  # the same search, with its dimensions in the file's order
    return FoldSearch(fold, out, search, make_job(lies or out, search, provenance, inputs, cache), numbers, Place.of(lies or out))


def _there(out: Path, fold: int, parent: Search) -> tuple[tuple[FoldTrial, ...], frozenset[int]]:
    """Return the trials that have begun in ``out``, and the numbers of the failed ones. Raises UserError for another search."""
    if not (out / PROVENANCE).is_file():
        return (), frozenset()
    search, _ = read_workspace(out)
    expected = fold_search(parent, fold, trials_of(search))
    if search.model_copy(update={name: getattr(expected, name) for name in CHANGEABLE}) != expected:
        raise UserError(
            f"{out} holds something else than this search without its fold {fold}; remove that folder to train the fold again"
        )
    facts = _trials(out, search)
    return trials_of(search)[: len(facts)], frozenset(trial.number for trial in facts if trial.end == "failed")


def _trials(out: Path, search: Search) -> list[TrialRecord]:
    if not Ledger.is_in(out):
        return []
    if (out / JOURNAL).is_file():
        cut_torn_line(out / JOURNAL)
    return Ledger.create(out, search.name).trials()


def _check_idle(out: Path) -> None:
    if Ledger.is_in(out) and read_status(out)["state"] == "running":
        raise UserError(
            f"{out}: another process trains other members of this search; wait for its end (hpa-search status {out}), or stop it"
        )


def _classes(fold: int, parent: Search, origin: Provenance, labels: NDArray[np.bool_]) -> list[int]:
    """Return the parent's scored classes that have positives among ``labels`` (n, 28), the fold's rows.

    Raises UserError if the fold has too few rows, or no positives of any class.
    """
    if len(labels) < LEAST_VALIDATION:
        raise UserError(f"fold {fold} has {len(labels)} images, but {LEAST_VALIDATION} are needed; search with fewer folds")
    present = labels.any(axis=0)
    scored = np.flatnonzero(present & to_vector(origin.classes))
    if not len(scored):  # no trial is chosen by this score: any class will do
        scored = np.flatnonzero(present if parent.labels is None else present & to_vector(parent.labels))
    if not len(scored):
        names = ", ".join(LABELS[label] for label in parent.labels or ())
        raise UserError(f"fold {fold} has no image with any of the search's labels ({names}); search with fewer folds")
    return scored.tolist()
