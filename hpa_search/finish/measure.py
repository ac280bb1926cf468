"""How good the bundle is: on rows that nothing was chosen on, and by repeating every choice inside folds."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hpa_search.bundle.manifest import Manifest
from hpa_search.bundle.predict import bundle_probabilities, network_logits
from hpa_search.data.splits import PARTS
from hpa_search.files import whole
from hpa_search.finish.material import Material
from hpa_search.scoring.appraisal import Appraisal, appraise
from hpa_search.scoring.comparison import bootstrap_macro_ap
from hpa_search.scoring.estimate import usual_folds
from hpa_search.scoring.final import Ensemble, FinalChoice
from hpa_search.scoring.intervals import Interval, bootstrap_interval, f1_intervals, paired_difference
from hpa_search.scoring.metrics import all_positive_floor

LEVEL = 0.90
SAMPLES = 1000


def appraise_pool(material: Material, choice: FinalChoice) -> tuple[Ensemble, Appraisal | None]:
    """Choose on all rows of the pool, and estimate how good that is by repeating it inside folds of them.

    There is no appraisal where the rows are all of one group.
    """
    pool = material.pool
    labels, groups = material.labels(pool.rows), material.groups(pool.rows)
    folds = usual_folds(len(pool.rows) if groups is None else len(set(groups)))
    if folds < 2:
        return choice(pool.logits, labels), None
    appraisal = appraise(choice, pool.logits, labels, groups=groups, folds=folds, scored=pool.scored)
    return appraisal.ensemble, appraisal


def measure(
    material: Material, choice: FinalChoice, appraisal: Appraisal | None, bundle: Path, manifest: Manifest
) -> dict[str, Any]:
    """Return everything that result.json says; `test` is None where the split has no test rows, `nested` without appraisal."""
    pool = material.pool
    best = pool.candidates[pool.best_single]
    rows = {part: getattr(material.split, part) for part in PARTS}
    return {
        "labels": pool.scored.tolist(),
        "rows": {part: len(numbers) for part, numbers in rows.items()},
        "positives": {part: material.labels(numbers).sum(axis=0).tolist() for part, numbers in rows.items()},
        "final": {"tta": manifest.tta, "ensemble": choice.ensemble, "thresholds": choice.thresholds},
        "members": [{"search": m.search, "trial": m.trial, "epoch": m.epoch, "weight": m.weight} for m in manifest.members],
        "best_single": {"search": best.search, "trial": best.trial, "epoch": best.epoch},
        "runner_up": _runner_up(material),
        "nested": _nested(material, appraisal) if appraisal else None,
        "classes": [asdict(one) for one in appraisal.classes] if appraisal else [],
        "test": _test(material, choice, bundle, manifest) if len(material.split.test) else None,
    }


def _nested(material: Material, appraisal: Appraisal) -> dict[str, Any]:
    return {
        **asdict(appraisal.interval),
        "naive": appraisal.estimate.naive,
        "optimism": appraisal.estimate.optimism,
        "rows": len(material.pool.rows),
        "networks": len(material.pool.networks[0]),
        "classes_absent": list(appraisal.absent),
        "macro_f1_present": appraisal.present_only,
        "rows_filled": appraisal.filled,
        "ways": {name: asdict(found) for name, found in appraisal.ways.items()},
        "differences": {name: asdict(found) for name, found in appraisal.differences.items()},
        "rules": appraisal.rules,
    }


def _runner_up(material: Material) -> dict[str, Any] | None:
    """Compare the best single trial with the best of the others: macro AP, paired over redraws of the same rows.

    These rows ranked the two, so the difference is too large rather than too small.
    """
    pool = material.pool
    first = pool.candidates[pool.best_single]
    others = [
        place
        for place, one in enumerate(pool.candidates)
        if (one.search, one.trial) != (first.search, first.trial) and (one.covers == first.covers).all()
    ]
    if not others:
        return None
    classes = [label for label in pool.classes if first.covers[label]]
    both = pool.logits[[pool.best_single, others[0]]][:, :, classes]
    labels, groups = material.labels(pool.rows)[:, classes], material.groups(pool.rows)
    drawn = bootstrap_macro_ap(both, labels, groups, SAMPLES, seed=0)
    difference = drawn[0] - drawn[1]
    second = pool.candidates[others[0]]
    return {
        "search": second.search,
        "trial": second.trial,
        "epoch": second.epoch,
        "macro_ap": [float(drawn[0, 0]), float(drawn[1, 0])],
        "difference": asdict(Interval.around(float(difference[0]), difference[1:], LEVEL)),
    }


def _test(material: Material, choice: FinalChoice, bundle: Path, manifest: Manifest) -> dict[str, Any]:
    """Score the bundle itself, and the best single trial with a rule of its own."""
    rows = material.split.test
    labels, groups = material.labels(rows), material.groups(rows)
    probabilities = bundle_probabilities(bundle, manifest, material.images, rows)
    ensemble, single = manifest.decision_rule.decide(probabilities), _best_single(material, choice, manifest)
    ids, scored = np.array(material.dataset.ids)[rows], material.pool.scored
    ours, best, truth = ensemble.labels[:, scored], single[:, scored], labels[:, scored]
    with whole(material.out / "test_predictions.npz") as path, path.open("wb") as file:
        np.savez(file, ids=ids, labels=labels, probabilities=probabilities)
    return {
        "ensemble": asdict(bootstrap_interval(ours, truth, groups=groups)),
        "best_single": asdict(bootstrap_interval(best, truth, groups=groups)),
        "difference": asdict(paired_difference(ours, best, truth, groups=groups)),
        "floor": all_positive_floor(truth),
        "rows_filled": ensemble.filled,
        "classes": [asdict(found) for found in f1_intervals(ensemble.labels, labels, groups=groups)],
    }


def _best_single(material: Material, choice: FinalChoice, manifest: Manifest) -> np.ndarray:
    """Return the labels (n, 28) that the best single entry gives to the test rows, judging as the bundle's members do."""
    pool, provenance = material.pool, material.provenance
    networks = pool.networks[pool.best_single]
    rule = choice.rule(pool.logits[pool.best_single], material.labels(pool.rows), networks[0].covers)
    logits = [
        network_logits(
            one.config, one.weights, provenance.mean, provenance.std, material.images, material.split.test, manifest.tta
        )
        for one in networks
    ]
    return rule.predict(np.mean(logits, axis=0)).labels
