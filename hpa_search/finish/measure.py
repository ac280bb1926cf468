"""How good the bundle is: on rows that nothing was chosen on, and by repeating every choice inside folds."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hpa_search.bundle.manifest import Manifest
from hpa_search.bundle.predict import bundle_probabilities, network_logits
from hpa_search.data.splits import PARTS
from hpa_search.finish.material import Material
from hpa_search.scoring.estimate import bootstrap_interval, nested_estimate, paired_difference
from hpa_search.scoring.final import FinalChoice
from hpa_search.scoring.metrics import all_positive_floor, f1_per_class

FOLDS = 5


def measure(material: Material, choice: FinalChoice, bundle: Path, manifest: Manifest) -> dict[str, Any]:
    """Return everything that result.json says; `test` is None where the split has no test rows."""
    best = material.pool.candidates[material.pool.best_single]
    rows = {part: getattr(material.split, part) for part in PARTS}
    return {
        "labels": material.pool.scored.tolist(),
        "rows": {part: len(numbers) for part, numbers in rows.items()},
        "positives": {part: material.labels(numbers).sum(axis=0).tolist() for part, numbers in rows.items()},
        "members": [{"search": m.search, "trial": m.trial, "epoch": m.epoch, "weight": m.weight} for m in manifest.members],
        "best_single": {"search": best.search, "trial": best.trial, "epoch": best.epoch},
        "nested": _nested(material, choice),
        "test": _test(material, choice, bundle, manifest) if len(material.split.test) else None,
    }


def _nested(material: Material, choice: FinalChoice) -> dict[str, float] | None:
    """Refit selection, calibration and thresholds inside folds of the validation rows; None if these are one group."""
    rows = material.split.validation
    labels, groups = material.labels(rows), material.groups(rows)
    folds = min(FOLDS, len(rows) if groups is None else len(set(groups)))
    if folds < 2:
        return None
    scored = material.pool.scored
    estimate = nested_estimate(material.pool.logits, labels, choose=choice, folds=folds, groups=groups, classes=scored)
    interval = bootstrap_interval(estimate.predicted[:, scored], labels[:, scored], groups=groups)
    return {**asdict(interval), "naive": estimate.naive, "optimism": estimate.optimism}


def _test(material: Material, choice: FinalChoice, bundle: Path, manifest: Manifest) -> dict[str, Any]:
    """Score the bundle itself, and the best single trial with a rule of its own."""
    rows = material.split.test
    labels, groups = material.labels(rows), material.groups(rows)
    probabilities = bundle_probabilities(bundle, manifest, material.images, rows)
    ensemble, single = manifest.decision_rule.decide(probabilities), _best_single(material, choice)
    ids, scored = np.array(material.dataset.ids)[rows], material.pool.scored
    ours, best, truth = ensemble.labels[:, scored], single[:, scored], labels[:, scored]
    np.savez(material.out / "test_predictions.npz", ids=ids, labels=labels, probabilities=probabilities)
    return {
        "ensemble": asdict(bootstrap_interval(ours, truth, groups=groups)),
        "best_single": asdict(bootstrap_interval(best, truth, groups=groups)),
        "difference": asdict(paired_difference(ours, best, truth, groups=groups)),
        "floor": all_positive_floor(truth),
        "rows_filled": ensemble.filled,
        "f1_per_class": f1_per_class(ensemble.labels, labels).tolist(),
    }


def _best_single(material: Material, choice: FinalChoice) -> np.ndarray:
    index = material.pool.best_single
    best, provenance = material.pool.candidates[index], material.provenance
    rule = choice.rule(material.pool.logits[index], material.labels(material.split.validation), best.covers)
    logits = network_logits(best.config, best.weights, provenance.mean, provenance.std, material.images, material.split.test)
    return rule.predict(logits).labels
