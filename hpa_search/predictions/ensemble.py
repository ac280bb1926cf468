"""Choose an ensemble of predictions that were made anywhere, measure it, and write it down."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hpa_search import __version__
from hpa_search.errors import UserError
from hpa_search.files import write_json, write_text
from hpa_search.labels import LABELS, NUM_LABELS
from hpa_search.predictions.chosen import FORMAT, Chosen, Model, read_chosen, write_chosen
from hpa_search.predictions.reading import Predictions, read_labelled
from hpa_search.predictions.tables import class_rows, member_rows, summary, to_csv
from hpa_search.scoring.appraisal import Progress, appraise
from hpa_search.scoring.ensemble import SELECTIONS
from hpa_search.scoring.estimate import usual_folds
from hpa_search.scoring.final import POOL, Ensemble, FinalChoice
from hpa_search.scoring.measured import Measured, Member, Nested
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
    tell: Progress | None = None,
) -> Measured:
    """Choose an ensemble of the models in ``path``, write it to ``out``, and return what was measured.

    `reading.read_labelled` describes the file ``path``. ``ensemble`` and ``thresholds`` are names in SELECTIONS and RULES.
    The folder ``out`` gets ensemble.json, which `apply` reads, and estimate.json, the nested macro F1 over all 28 labels with
    its comparisons. It also gets classes.csv, members.csv and SUMMARY.md. ``tell`` gets the finished folds and the number of
    folds.
    Raises UserError for a file at fault, an unknown name, and a folder that holds anything but an ensemble.
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
    chosen = _chosen(given, choice, appraisal.ensemble)
    groups = None if given.groups is None else len(np.unique(given.groups))
    measured = _measured(chosen, choice, Nested.of(appraisal, rows=len(given.ids), groups=groups, folds=folds))
    _write(out, given, chosen, measured)
    return measured


def _check_folder(out: Path) -> None:
    """Refuse a folder that holds other files or cannot be written, before minutes of choosing."""
    above = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"{out}: nothing can be written here; give --out the name of a folder of yours")
    if out.exists() and any(is_users_file(path.name) for path in out.iterdir()):
        try:
            read_chosen(out)
        except UserError as error:
            raise UserError(f"{out}: holds files that are not an ensemble's; give --out a new folder\n({error})") from None


def _folds(path: Path, given: Predictions) -> int:
    """Return the number of folds that the rows allow. Raises UserError if nothing can be held out."""
    assert given.labels is not None
    units = len(given.ids if given.groups is None else set(given.groups.tolist()))
    if units < 2:
        raise UserError(
            f"{path}: {len(given.ids)} row(s) in one group, so none can be held out to judge by; give rows of at least two groups"
        )
    labelled = int(given.labels.any(axis=1).sum())
    if labelled < min(len(given.ids), _LEAST_LABELLED):
        raise UserError(
            f"{path}: {labelled} of {len(given.ids)} rows have a label; leave the others out, or label at least {_LEAST_LABELLED}"
        )
    return usual_folds(units)


def _notes(given: Predictions) -> list[str]:
    assert given.labels is not None
    rows, models = len(given.ids), len(given.names)
    empty = int((~given.labels.any(axis=1)).sum())
    notes = [f"Choosing among {models} model{'s' if models > 1 else ''} on {rows} rows."]
    if models > POOL:
        notes.append(f"Each choice considers only the {POOL} models with the highest macro AP on its rows.")
    if empty:
        notes.append(f"{empty} rows have no label. Every row is given at least one, so these rows count as wrong.")
    return notes


def _chosen(given: Predictions, choice: FinalChoice, found: Ensemble) -> Chosen:
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


def _measured(chosen: Chosen, choice: FinalChoice, nested: Nested) -> Measured:
    return Measured(
        labels=tuple(range(NUM_LABELS)),
        ensemble=chosen.ensemble,
        thresholds=chosen.thresholds,
        max_members=choice.max_members,
        candidates=len(chosen.models),
        members=tuple(Member(model.name, model.weight) for model in sorted(chosen.members, key=lambda model: -model.weight)),
        rule=chosen.rule,
        nested=nested,
    )


def as_json(measured: Measured, nested: Nested) -> dict[str, Any]:
    """Return what estimate.json says: plain numbers, texts, lists and mappings."""
    return {
        "macro_f1": nested.macro_f1.value,
        "low": nested.macro_f1.low,
        "high": nested.macro_f1.high,
        "level": nested.macro_f1.level,
        "naive": nested.naive,
        "optimism": nested.optimism,
        "classes_absent": list(nested.absent),
        "macro_f1_present": nested.present_only,
        "rows": nested.rows,
        "groups": nested.groups,
        "folds": nested.folds,
        "models": measured.candidates,
        "members": {str(member.source): member.weight for member in measured.members},
        "ensemble": measured.ensemble,
        "thresholds": measured.thresholds,
        "max_members": measured.max_members,
        "filled": nested.filled,
        "best_single": asdict(nested.ways["single"]),
        "difference_to_best_single": asdict(nested.differences["single"]),
        "uniform": asdict(nested.ways["uniform"]),
        "difference_to_uniform": asdict(nested.differences["uniform"]),
        "rules": dict(nested.rules),
    }


def _write(out: Path, given: Predictions, chosen: Chosen, measured: Measured) -> None:
    """Write all files.

    A kill may leave an ensemble without its tables, but never beside the tables of another ensemble.
    """
    assert measured.nested is not None
    out.mkdir(parents=True, exist_ok=True)
    for name in (ESTIMATE, CLASSES, MEMBERS, SUMMARY):
        (out / name).unlink(missing_ok=True)
    write_chosen(out, chosen)
    members, classes = member_rows(given, chosen), class_rows(measured)
    write_text(out / MEMBERS, to_csv(members))
    write_text(out / CLASSES, to_csv(classes))
    write_text(out / SUMMARY, summary(measured, members, classes))
    write_json(out / ESTIMATE, as_json(measured, measured.nested))
