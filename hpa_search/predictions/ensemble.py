"""The final stage on predictions that were made anywhere: choose, appraise, and write down what a person and a program need."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hpa_search import __version__
from hpa_search.errors import UserError
from hpa_search.files import write_json, write_text
from hpa_search.labels import LABELS
from hpa_search.predictions.chosen import FORMAT, Chosen, Model, read_chosen, write_chosen
from hpa_search.predictions.reading import Predictions, read_labelled
from hpa_search.predictions.tables import class_rows, member_rows, summary, to_csv
from hpa_search.scoring.appraisal import Appraisal, Tell, appraise
from hpa_search.scoring.ensemble import SELECTIONS
from hpa_search.scoring.estimate import usual_folds
from hpa_search.scoring.final import POOL, FinalChoice
from hpa_search.scoring.records import Calibration, Rule
from hpa_search.scoring.rules import DEFAULT, RULES
from hpa_search.system_files import is_users_file

ESTIMATE, CLASSES, MEMBERS, SUMMARY = "estimate.json", "classes.csv", "members.csv", "SUMMARY.md"

_LEAST_LABELLED = 20


def make_ensemble(
    path: Path,
    out: Path,
    *,
    logits: bool = False,
    ensemble: str = "greedy",
    thresholds: str = DEFAULT,
    max_members: int = FinalChoice.max_members,
    say: Callable[[str], None] = print,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Choose an ensemble of the models in the file ``path`` (see `reading.read_labelled`) and write it to the folder ``out``.

    ``ensemble`` and ``thresholds`` name how (SELECTIONS, RULES). Writes ensemble.json (what `apply` needs), estimate.json
    (the honest macro F1 over all 28 classes and what it is held against), classes.csv, members.csv and SUMMARY.md, and
    returns what estimate.json says. ``tell`` hears how many of the choices are made. Raises UserError for a file that is at
    fault, an unknown name, and a folder that holds anything but an ensemble.
    """
    for name, registry in ((ensemble, SELECTIONS), (thresholds, RULES)):
        if fault := registry.fault(name):
            raise UserError(f"--{registry.setting}: {fault}")
    if not 1 <= max_members <= POOL:
        raise UserError(f"--max-members {max_members}: expected 1 to {POOL}")
    _check_folder(out)
    given = read_labelled(path, logits=logits)
    folds = _folds(path, given)
    for line in _notes(given):
        say(line)
    choice = FinalChoice(ensemble=ensemble, thresholds=thresholds, max_members=max_members)
    assert given.labels is not None
    appraisal = appraise(choice, given.logits, given.labels, groups=given.groups, folds=folds, tell=tell)
    chosen = _chosen(given, choice, appraisal)
    result = _result(given, choice, appraisal, chosen, folds)
    _write(out, given, chosen, appraisal, result)
    return result


def _check_folder(out: Path) -> None:
    """Refuse, before minutes of choosing, a folder that holds something else or that nothing can be written to."""
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"{out}: nothing can be written here; give --out the name of a folder of yours")
    if out.exists() and any(is_users_file(path.name) for path in out.iterdir()):
        try:
            read_chosen(out)
        except UserError as error:
            raise UserError(f"{out}: holds files that are no ensemble; give --out a new folder\n({error})") from None


def _folds(path: Path, given: Predictions) -> int:
    """Return how many folds the rows allow; UserError where nothing can be held out."""
    assert given.labels is not None
    units = len(given.ids if given.groups is None else set(given.groups.tolist()))
    if units < 2:
        raise UserError(f"{path}: {len(given.ids)} row(s) in one group; nothing can be held out of it to judge by")
    labelled = int(given.labels.any(axis=1).sum())
    if labelled < min(len(given.ids), _LEAST_LABELLED):
        raise UserError(
            f"{path}: {labelled} of {len(given.ids)} rows have a label; at least {_LEAST_LABELLED} are needed where not all have one"
        )
    return usual_folds(units)


def _notes(given: Predictions) -> list[str]:
    assert given.labels is not None
    rows, models = len(given.ids), len(given.names)
    empty = int((~given.labels.any(axis=1)).sum())
    notes = [f"Choosing among {models} model{'s' if models > 1 else ''} on {rows} rows."]
    if models > POOL:
        notes.append(f"Only the {POOL} with the highest macro AP are looked at, of those rows that each choice is made on.")
    if empty:
        notes.append(f"{empty} rows have no label; every row is given at least one, so these count as wrong.")
    return notes


def _chosen(given: Predictions, choice: FinalChoice, appraisal: Appraisal) -> Chosen:
    found = appraisal.ensemble
    triples = zip(given.names, found.weights.tolist(), found.maps, strict=True)
    return Chosen(
        format=FORMAT,
        version=__version__,
        labels=LABELS,
        ensemble=choice.ensemble,
        thresholds=choice.thresholds,
        models=tuple(Model(name=name, weight=weight, map=Calibration.of(platt)) for name, weight, platt in triples),
        rule=Rule.of(found.rule),
    )


def _result(given: Predictions, choice: FinalChoice, appraisal: Appraisal, chosen: Chosen, folds: int) -> dict[str, Any]:
    interval, estimate = appraisal.interval, appraisal.estimate
    return {
        "macro_f1": interval.value,
        "low": interval.low,
        "high": interval.high,
        "level": interval.level,
        "naive": estimate.naive,
        "optimism": estimate.optimism,
        "classes_absent": list(appraisal.absent),
        "macro_f1_present": appraisal.present_only,
        "rows": len(given.ids),
        "groups": None if given.groups is None else len(np.unique(given.groups)),
        "folds": folds,
        "models": len(given.names),
        "members": {model.name: model.weight for model in sorted(chosen.members, key=lambda model: -model.weight)},
        "ensemble": chosen.ensemble,
        "thresholds": chosen.thresholds,
        "max_members": choice.max_members,
        "filled": appraisal.filled,
        "best_single": asdict(appraisal.ways["single"]),
        "difference_to_best_single": asdict(appraisal.differences["single"]),
        "uniform": asdict(appraisal.ways["uniform"]),
        "difference_to_uniform": asdict(appraisal.differences["uniform"]),
        "rules": appraisal.rules,
    }


def _write(out: Path, given: Predictions, chosen: Chosen, appraisal: Appraisal, result: dict[str, Any]) -> None:
    """Write all files; after a kill there may be an ensemble without tables, but never one beside another's."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (ESTIMATE, CLASSES, MEMBERS, SUMMARY):
        (out / name).unlink(missing_ok=True)
    write_chosen(out, chosen)
    members, classes = member_rows(given, chosen), class_rows(appraisal)
    write_text(out / MEMBERS, to_csv(members))
    write_text(out / CLASSES, to_csv(classes))
    write_text(out / SUMMARY, summary(result, members, classes))
    write_json(out / ESTIMATE, result)
