"""Train the members of an ensemble on the other folds too: every row gets unseen predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hpa_search.board.events import EventFiles
from hpa_search.board.runs import TensorBoard
from hpa_search.bundle.export import Candidate
from hpa_search.data.external import read_external
from hpa_search.data.splits import Split
from hpa_search.engine.cluster_up import ray_up
from hpa_search.engine.commands import COMMANDS
from hpa_search.engine.driver import Site, run_search
from hpa_search.engine.scratch import scratch_folder
from hpa_search.engine.worker import Trials
from hpa_search.errors import UserError
from hpa_search.finish.fold_members import FoldMembers
from hpa_search.finish.material import Material
from hpa_search.labels import NUM_LABELS
from hpa_search.layout import PROVENANCE, SEARCH, SPLIT
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.study_place import read_study_place
from hpa_search.models.weights import check_weights
from hpa_search.search.folds import FoldSearch, FoldTrial, prepare_fold
from hpa_search.search.log import SearchLog
from hpa_search.search.view import View
from hpa_search.search.workspace import Inputs, check_out
from hpa_search.storage.data_cache import localised
from hpa_search.storage.place import Place
from hpa_search.training.checkpoint import read_logits, weights_path
from hpa_search.training.job import open_trial, trial_folder

FOLDS = "folds"


def train_folds(
    material: Material, members: Sequence[Candidate], *, cache: Path, ray_address: str | None, console: Console
) -> FoldMembers | None:
    """Train ``members`` without each other fold, in OUT/folds/1, 2, ...; return None if stopped.

    Complete training in these folders is used, and the rest is resumed. ``ray_address`` names a Ray to join.
    Raises UserError if the search has no folds, or a member is of another search. Raises UserError if the data or the
    external images are not the search's. Raises UserError if no member could be trained on every fold.
    """
    searches = prepare_folds(material, members, cache=cache, console=console)
    waiting = [search for search in searches if not search.done]
    if waiting:
        with scratch_folder() as scratch, ray_up(ray_address, scratch):
            for search in waiting:
                if not _train(search, ray_address, console):
                    return None
    return gather(material, members, searches, console=console)


def prepare_folds(material: Material, members: Sequence[Candidate], *, cache: Path, console: Console) -> tuple[FoldSearch, ...]:
    """Prepare a folder for each fold but the one that judged the search.

    Raises UserError as `train_folds` does.
    """
    split, trials = _folds(material), _trials(material, members)
    check_out(material.out, material.search, "", material.dataset, cache)
    for config in {member.config for member in members if member.config.weights != "none"}:
        check_weights(config)
    inputs = _inputs(material, cache)
    parent = material.search, material.provenance
    material.work.fetch(*(f"{FOLDS}/*/{name}" for name in (SEARCH, SPLIT, PROVENANCE, "study.j*")))
    searches = []
    database = read_study_place(material.out)
    study = database.url if database else None
    for fold in _others(split):
        out = material.out / FOLDS / str(fold)
        place = material.work.place / f"{FOLDS}/{fold}"
        searches.append(
            prepare_fold(out, fold, trials, parent=parent, split=split, inputs=inputs, cache=cache, study=study, lies=place)
        )
        _say(
            console,
            f"Fold {fold}: {len(trials)} member(s), measured on {np.sum(split.fold == fold)} images they do not see; {place}",
        )
    material.work.push()
    return tuple(searches)


def gather(material: Material, members: Sequence[Candidate], searches: Sequence[FoldSearch], *, console: Console) -> FoldMembers:
    """Return the networks that the searches of `prepare_folds` have trained.

    ``console`` shows each member that is left out, and why.
    Raises UserError if no member is left, and if stored logits cannot be read.
    """
    split = _folds(material)
    faults = {index: why for search in searches for index, why in _faults(search).items()}
    kept = tuple(index for index in range(len(members)) if index not in faults)
    for index, why in faults.items():
        _say(console, f"{_name(members[index])} is left out: {why}")
    if not kept:
        raise UserError(
            f"no member could be trained on every fold; see {material.out / FOLDS}/*/trials/*/error.txt, "
            "then give the same command again"
        )
    trained = {search.fold: search for search in searches}
    candidates = tuple(
        tuple(
            _candidate(trained[fold], index, members[index]) if fold in trained else members[index]
            for fold in range(len(trained) + 1)
        )
        for index in kept
    )
    material.work.fetch(f"{FOLDS}/*/trials/*/logits.npz")
    material.work.obtain([one.weights for found in candidates for one in found])
    assert split.fold is not None
    rows = np.flatnonzero(split.fold >= 0)
    logits = np.stack([_out_of_fold(found, split.fold) for found in candidates])
    return FoldMembers(kept, candidates, rows, split.fold[rows], logits[:, rows])


def _train(search: FoldSearch, ray_address: str | None, console: Console) -> bool:
    log = SearchLog()
    log.open(search.out)
    view = View(search.search, console, log)
    view.say(f"Training without fold {search.fold}.")
    watchers = TensorBoard(EventFiles(search.out), search.search), view
    with view.showing():
        site = Site(search.out, commands=search.place / COMMANDS, ray_address=ray_address)
        trials = Trials(open_trial, search.job)
        outcome = run_search(search.search, site, trials, watchers=watchers, say=view.say)
    return outcome == "finished"


def _folds(material: Material) -> Split:
    """Return the split. Raises UserError unless the search has folds."""
    if material.search.split.folds is None:
        raise UserError(
            f"{material.out}: the search has no folds to train its members on; write `split: {{folds: 5, test: 0.15}}` in its "
            "space file, instead of train and validation, and run it into another --out"
        )
    if material.split.fold is None:
        raise UserError(
            f"{material.out / SPLIT}: the column Fold is missing, which a search on folds writes; put the file back as it was"
        )
    return material.split


def _others(split: Split) -> list[int]:
    assert split.fold is not None
    return [fold for fold in range(int(split.fold.max()) + 1) if fold != split.judging]


def _trials(material: Material, members: Sequence[Candidate]) -> list[FoldTrial]:
    """Return the trials to train on each other fold. Raises UserError for a member of another search."""
    drawn = {facts.number: facts.parameters for facts in Ledger.open(material.out).trials()}
    for member in members:
        if member.weights != weights_path(trial_folder(material.out, member.trial), member.epoch):
            raise UserError(
                f"{_name(member)} is not a trial of {material.out}: with --folds all members are of one search; leave --also out"
            )
    return [FoldTrial(drawn[member.trial], member.epoch) for member in members]


def _inputs(material: Material, cache: Path) -> Inputs:
    there = material.provenance.external
    if there is None:
        return Inputs(material.dataset, material.images, place=material.data)
    place = Place.of(there.folder)
    with localised(place, cache) as folder:
        external = read_external(folder, material.images.size, cache)
    if external.fingerprint != there.fingerprint:
        raise UserError(f"{place}: the external images are not those that the search was trained on; put those back")
    return Inputs(material.dataset, material.images, external, place.plain, material.data)


def _faults(search: FoldSearch) -> dict[int, str]:
    """Return the members, by their places, whose training without one fold is not complete, and why."""
    facts = search.facts()
    return {
        index: f"its training without fold {search.fold} failed ({facts[number].ended}); "
        "give the same command again to retry with another seed"
        for index, number in enumerate(search.numbers)
        if facts[number].end != "complete"
    }


def _candidate(search: FoldSearch, index: int, member: Candidate) -> Candidate:
    number = search.numbers[index]
    weights = weights_path(trial_folder(search.out, number), member.epoch)
    return Candidate(search.search.name, number, member.epoch, member.config, weights, member.labels)


def _out_of_fold(candidates: Sequence[Candidate], folds: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the logits (all rows, 28), NaN for test rows.

    Each row is predicted by the candidate trained without its fold.
    Raises UserError for weights or logits that are missing, and for logits of another shape.
    """
    logits = np.full((len(folds), NUM_LABELS), np.nan, dtype=np.float32)
    for fold, candidate in enumerate(candidates):
        mine = np.flatnonzero(folds == fold)
        folder = candidate.weights.parent.parent
        stored = read_logits(folder).get(candidate.epoch)
        if stored is None or stored.shape != (len(mine), NUM_LABELS) or not candidate.weights.is_file():
            raise UserError(
                f"{folder}: the weights or logits of epoch {candidate.epoch} are missing or not of the fold's images; "
                "restore this folder"
            )
        logits[mine] = stored
    return logits


def _name(member: Candidate) -> str:
    return f"{member.search} trial {member.trial} epoch {member.epoch}"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False)
