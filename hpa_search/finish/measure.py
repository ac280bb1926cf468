"""Measure the bundle on test rows, and the choice of its members inside folds."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.bundle.manifest import Manifest
from hpa_search.bundle.predict import combined, member_files
from hpa_search.data.kaggle import Folder
from hpa_search.data.splits import PARTS
from hpa_search.files import whole
from hpa_search.finish.material import Material
from hpa_search.scoring.appraisal import Appraisal, appraise
from hpa_search.scoring.comparison import bootstrap_macro_ap
from hpa_search.scoring.estimate import usual_folds
from hpa_search.scoring.final import Ensemble, FinalChoice
from hpa_search.scoring.intervals import Interval, bootstrap_interval, f1_intervals, paired_difference
from hpa_search.scoring.measured import HeldOut, MeasuredSearch, Member, Nested, RunnerUp, Snapshot
from hpa_search.scoring.metrics import all_positive_floor

LEVEL = 0.90
SAMPLES = 1000
VALIDATION, OUT_OF_FOLD = "validation", "out_of_fold"
"""The rows that chose the ensemble, as in `predictions_file`."""


def appraise_pool(material: Material, choice: FinalChoice) -> tuple[Ensemble, Nested | None]:
    """Choose an ensemble on all rows of the pool, and repeat the choice inside folds to measure it.

    Returns the ensemble and its nested estimate. The estimate is None if the rows are all of one group.
    """
    pool = material.pool
    labels, groups = material.labels(pool.rows), material.groups(pool.rows)
    count = None if groups is None else len(set(groups))
    folds = usual_folds(len(pool.rows) if count is None else count)
    if folds < 2:
        return choice(pool.logits, labels), None
    appraisal: Appraisal = appraise(choice, pool.logits, labels, groups=groups, folds=folds, scored=pool.scored)
    networks = len(pool.networks[0])
    return appraisal.ensemble, Nested.of(appraisal, rows=len(pool.rows), groups=count, folds=folds, networks=networks)


def measure(material: Material, choice: FinalChoice, nested: Nested | None, bundle: Path, manifest: Manifest) -> MeasuredSearch:
    """Return what was measured of the exported ``bundle``; ``test`` is None without test rows.

    Writes test_predictions.npz into the search's folder.
    """
    pool = material.pool
    rows = {part: getattr(material.split, part) for part in PARTS}
    return MeasuredSearch(
        labels=tuple(pool.scored.tolist()),
        ensemble=choice.ensemble,
        thresholds=choice.thresholds,
        max_members=choice.max_members,
        candidates=len(pool.networks),
        members=tuple(Member(Snapshot(m.search, m.trial, m.epoch), m.weight) for m in manifest.members),
        rule=manifest.rule,
        nested=nested,
        tta=manifest.tta,
        rows={part: len(numbers) for part, numbers in rows.items()},
        positives={part: tuple(material.labels(numbers).sum(axis=0).tolist()) for part, numbers in rows.items()},
        best_single=_snapshot(pool.candidates[pool.best_single]),
        runner_up=_runner_up(material),
        test=_test(material, choice, bundle, manifest) if len(material.split.test) else None,
        submission=len(material.dataset.test_ids),
    )


def as_json(measured: MeasuredSearch) -> dict[str, Any]:
    """Return what result.json says: plain numbers, texts, lists and mappings."""
    test, runner_up = measured.test, measured.runner_up
    return {
        "labels": list(measured.labels),
        "rows": dict(measured.rows),
        "positives": {part: list(counts) for part, counts in measured.positives.items()},
        "final": {"tta": measured.tta, "ensemble": measured.ensemble, "thresholds": measured.thresholds},
        "members": [{**_source(member), "weight": member.weight} for member in measured.members],
        "best_single": asdict(measured.best_single),
        "runner_up": None
        if runner_up is None
        else {
            **asdict(runner_up.source),
            "macro_ap": list(runner_up.macro_ap),
            "difference": asdict(runner_up.difference),
        },
        "nested": _nested_json(measured.nested) if measured.nested else None,
        "classes": [asdict(one) for one in measured.nested.classes] if measured.nested else [],
        "test": None
        if test is None
        else {
            "ensemble": asdict(test.ensemble),
            "best_single": asdict(test.best_single),
            "difference": asdict(test.difference),
            "floor": test.floor,
            "rows_filled": test.filled,
            "classes": [asdict(one) for one in test.classes],
        },
        "submission": measured.submission,
    }


def _source(member: Member) -> dict[str, Any]:
    assert isinstance(member.source, Snapshot)
    return asdict(member.source)


def _nested_json(nested: Nested) -> dict[str, Any]:
    return {
        **asdict(nested.macro_f1),
        "naive": nested.naive,
        "optimism": nested.optimism,
        "rows": nested.rows,
        "networks": nested.networks,
        "classes_absent": list(nested.absent),
        "macro_f1_present": nested.present_only,
        "rows_filled": nested.filled,
        "ways": _intervals_json(nested.ways),
        "differences": _intervals_json(nested.differences),
        "rules": dict(nested.rules),
    }


def _intervals_json(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: asdict(interval) for name, interval in found.items()}


def _snapshot(candidate: Candidate) -> Snapshot:
    return Snapshot(candidate.search, candidate.trial, candidate.epoch)


def _runner_up(material: Material) -> RunnerUp | None:
    """Compare the best single trial with the best other trial for the same labels.

    Macro AP of both is paired over redraws of the rows.
    """
    pool = material.pool
    first = pool.candidates[pool.best_single]
    others = [
        place
        for place, other in enumerate(pool.candidates)
        if (other.search, other.trial) != (first.search, first.trial) and (other.covers == first.covers).all()
    ]
    if not others:
        return None
    classes = [label for label in pool.classes if first.covers[label]]
    both = pool.logits[[pool.best_single, others[0]]][:, :, classes]
    labels, groups = material.labels(pool.rows)[:, classes], material.groups(pool.rows)
    drawn = bootstrap_macro_ap(both, labels, groups, SAMPLES, seed=0)
    difference = drawn[0] - drawn[1]
    return RunnerUp(
        _snapshot(pool.candidates[others[0]]),
        (float(drawn[0, 0]), float(drawn[1, 0])),
        Interval.around(float(difference[0]), difference[1:], LEVEL),
    )


def _test(material: Material, choice: FinalChoice, bundle: Path, manifest: Manifest) -> HeldOut:
    """Score the files of the bundle, and the best single trial with a rule of its own."""
    rows = material.split.test
    labels, groups = material.labels(rows), material.groups(rows)
    probabilities = label(material, bundle, manifest, "train", rows)
    ensemble, single = manifest.decision_rule.decide(probabilities), _best_single(material, choice, manifest)
    scored = material.pool.scored
    ours, best, truth = ensemble.labels[:, scored], single[:, scored], labels[:, scored]
    write_predictions(material, "test", rows, probabilities)
    return HeldOut(
        ensemble=bootstrap_interval(ours, truth, groups=groups),
        best_single=bootstrap_interval(best, truth, groups=groups),
        difference=paired_difference(ours, best, truth, groups=groups),
        floor=all_positive_floor(truth),
        filled=ensemble.filled,
        classes=tuple(f1_intervals(ensemble.labels, labels, groups=groups)),
    )


def label(material: Material, bundle: Path, manifest: Manifest, folder: Folder, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what the files of ``bundle`` say about images: the probabilities (n, 28)."""
    return combined(manifest, material.predicts.logits(member_files(bundle, manifest), folder, rows, manifest.tta))


def predictions_file(out: Path, part: str) -> Path:
    """Return the file with the predictions for a part of the rows: `test`, `validation`, or `out_of_fold`, all but the test rows."""
    return out / f"{part}_predictions.npz"


def write_predictions(material: Material, part: str, rows: NDArray[np.int64], probabilities: NDArray[np.floating]) -> None:
    """Write what the ensemble says about ``rows`` into the search's folder; ``part`` names them as in `predictions_file`."""
    ids, labels = np.array(material.dataset.ids)[rows], material.labels(rows)
    with whole(predictions_file(material.out, part)) as path, path.open("wb") as file:
        np.savez(file, ids=ids, labels=labels, probabilities=probabilities)


def read_predictions(out: Path, part: str) -> tuple[tuple[str, ...], NDArray[np.bool_], NDArray[np.floating]]:
    """Return the ids, the labels and the probabilities that `write_predictions` wrote; the latter two are (n, 28)."""
    with np.load(predictions_file(out, part), allow_pickle=False) as found:
        return tuple(found["ids"].tolist()), found["labels"], found["probabilities"]


def _best_single(material: Material, choice: FinalChoice, manifest: Manifest) -> NDArray[np.bool_]:
    """Return the labels (n, 28) that the best single entry gives to the test rows.

    The entry predicts with the test-time augmentation of the bundle.
    """
    pool = material.pool
    networks = pool.networks[pool.best_single]
    rule = choice.rule(pool.logits[pool.best_single], material.labels(pool.rows), networks[0].covers)
    files = [material.network(one) for one in networks]
    logits = material.predicts.logits(files, "train", material.split.test, manifest.tta)
    return rule.predict(np.mean(logits, axis=0)).labels
