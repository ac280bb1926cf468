"""The final stage of a search: ensemble, thresholds, an honest number, the bundle, and the submission."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate, write_bundle, write_card
from hpa_search.bundle.manifest import Manifest
from hpa_search.bundle.predict import bundle_probabilities, network_logits
from hpa_search.bundle.submission import write_submission
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.splits import Split, read_split
from hpa_search.errors import UserError
from hpa_search.files import write_json
from hpa_search.scoring.estimate import bootstrap_interval, nested_estimate, paired_difference
from hpa_search.scoring.final import Ensemble, FinalChoice
from hpa_search.scoring.metrics import all_positive_floor, f1_per_class
from hpa_search.scoring.thresholds import decide, fit_rule
from hpa_search.search.space import Search
from hpa_search.search.study import Facts, Ledger
from hpa_search.search.workspace import read_workspace
from hpa_search.training.checkpoint import read_logits, weights_path
from hpa_search.training.job import SPLIT, trial_folder

MOST_CANDIDATES = 50


@dataclass(frozen=True, eq=False)
class _Pool:
    """Candidates, best first on the validation rows, and their logits there (m, n, 28)."""

    candidates: tuple[Candidate, ...]
    logits: NDArray[np.float32]


def finish(out: Path, cache: Path, *, data: Path | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Choose the ensemble of the search in ``out`` from what is there now, export it, and return what was measured.

    Writes bundle/, result.json and, where the dataset has a test/, submission.csv. ``data`` is where the dataset is
    now, if it was moved. Raises UserError if no trial has finished an epoch.
    """
    search, provenance = read_workspace(out)
    dataset = read_dataset(data or Path(provenance["data"]))
    images = pack(dataset.train_folder, dataset.ids, cache)
    split = read_split(out / SPLIT, dataset.ids)
    pool = _read_pool(out, search, Ledger.open(out).trials())
    choice = FinalChoice(tuple(provenance["classes"]), search.final.rounds, search.final.max_members)
    say(f"Choosing an ensemble among {len(pool.candidates)} candidates on {len(split.validation)} validation images.")
    ensemble = choice(pool.logits, dataset.labels[split.validation])
    manifest = _export(out, search, pool, ensemble, provenance)
    result = _measure(out, manifest, pool, choice, dataset, images, split, provenance)
    write_card(out / "bundle", manifest, result)
    write_json(out / "result.json", result)
    if dataset.test_ids:
        _submit(out, manifest, dataset, cache)
    return result


def _read_pool(out: Path, search: Search, trials: Sequence[Facts]) -> _Pool:
    found: list[tuple[float, Candidate, NDArray[np.float16]]] = []
    for facts in trials:
        if facts.end == "failed" or not facts.reports:
            continue
        folder, logits = trial_folder(out, facts.number), read_logits(trial_folder(out, facts.number))
        for epoch, objective in facts.reports.items():
            if (weights := weights_path(folder, epoch)).is_file():
                candidate = Candidate(facts.number, epoch, search.trial_config(facts.parameters), weights)
                found.append((objective, candidate, logits[epoch]))
    if not found:
        raise UserError(
            f"{out}: no trial has finished an epoch, so there is nothing to choose from; see trials/*/error.txt, and run the search on"
        )
    found.sort(key=lambda entry: -entry[0])
    kept = found[:MOST_CANDIDATES]
    return _Pool(tuple(candidate for _, candidate, _ in kept), np.stack([logits for *_, logits in kept]).astype(np.float32))


def _export(out: Path, search: Search, pool: _Pool, ensemble: Ensemble, provenance: dict[str, Any]) -> Manifest:
    members = [(pool.candidates[index], float(ensemble.weights[index])) for index in np.flatnonzero(ensemble.weights)]
    kept = {name: provenance[name] for name in ("version", "fingerprint", "images", "native_size", "packages")}
    return write_bundle(
        out / "bundle", search.name, members, ensemble.rule, mean=provenance["mean"], std=provenance["std"], provenance=kept
    )


def _measure(
    out: Path,
    manifest: Manifest,
    pool: _Pool,
    choice: FinalChoice,
    dataset: Dataset,
    images: PackedImages,
    split: Split,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    groups = np.array(dataset.groups) if dataset.groups else None
    labels = dataset.labels
    return {
        "rows": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
        "positives": {part: labels[getattr(split, part)].sum(axis=0).tolist() for part in ("train", "validation", "test")},
        "members": [{"trial": m.trial, "epoch": m.epoch, "weight": m.weight} for m in manifest.members],
        "best_single": {"trial": pool.candidates[0].trial, "epoch": pool.candidates[0].epoch},
        "nested": _nested(pool, choice, labels[split.validation], None if groups is None else groups[split.validation]),
        "test": _test(out, manifest, pool, dataset, images, split, provenance) if len(split.test) else None,
    }


def _nested(pool: _Pool, choice: FinalChoice, labels: NDArray[np.bool_], groups: NDArray[np.str_] | None) -> dict[str, float]:
    folds = max(2, min(5, len(labels) // 4, len(labels) if groups is None else len(set(groups))))
    estimate = nested_estimate(pool.logits, labels, choose=choice, folds=folds, groups=groups)
    interval = bootstrap_interval(estimate.predicted, labels, groups=groups)
    return {**asdict(interval), "naive": estimate.naive, "optimism": estimate.optimism}


def _test(
    out: Path, manifest: Manifest, pool: _Pool, dataset: Dataset, images: PackedImages, split: Split, provenance: dict[str, Any]
) -> dict[str, Any]:
    """Score the bundle itself, and the best single trial with a rule of its own, on rows that nothing was chosen on."""
    labels, groups = dataset.labels[split.test], np.array(dataset.groups)[split.test] if dataset.groups else None
    probabilities = bundle_probabilities(out / "bundle", manifest, images, split.test)
    ensemble = decide(probabilities, manifest.decision_rule.thresholds)
    best = pool.candidates[0]
    rule = fit_rule(pool.logits[0], dataset.labels[split.validation])
    single = rule.predict(network_logits(best.config, best.weights, provenance["mean"], provenance["std"], images, split.test))
    np.savez(out / "test_predictions.npz", ids=np.array(dataset.ids)[split.test], labels=labels, probabilities=probabilities)
    return {
        "ensemble": asdict(bootstrap_interval(ensemble.labels, labels, groups=groups)),
        "best_single": asdict(bootstrap_interval(single.labels, labels, groups=groups)),
        "difference": asdict(paired_difference(ensemble.labels, single.labels, labels, groups=groups)),
        "floor": all_positive_floor(labels),
        "rows_filled": ensemble.filled,
        "f1_per_class": f1_per_class(ensemble.labels, labels).tolist(),
    }


def _submit(out: Path, manifest: Manifest, dataset: Dataset, cache: Path) -> None:
    images = pack(dataset.test_folder, dataset.test_ids, cache)
    probabilities = bundle_probabilities(out / "bundle", manifest, images, np.arange(len(images)))
    write_submission(out / "submission.csv", dataset.test_ids, decide(probabilities, manifest.decision_rule.thresholds).labels)


def summary(out: Path, result: dict[str, Any]) -> list[str]:
    """Return the lines that say what came out, where it is, and what to type next."""
    lines = [
        f"Ensemble of {len(result['members'])}: "
        + ", ".join(f"trial {m['trial']} epoch {m['epoch']} x {m['weight']:.2f}" for m in result["members"])
    ]
    nested, test = result["nested"], result["test"]
    if test:
        lines += [
            f"Test macro F1 ({result['rows']['test']} images that nothing was chosen on):",
            f"  ensemble            {_interval(test['ensemble'])}",
            f"  best single trial   {_interval(test['best_single'])}  (trial {result['best_single']['trial']})",
            f"  difference          {_interval(test['difference'])}{'' if _differs(test['difference']) else ', not distinguishable'}",
            f"  predict everything  {test['floor']:.4f}  (the floor)",
        ]
    lines += [
        f"Nested estimate on the validation rows: {_interval(nested)}; the naive number there would be {nested['naive']:.4f}, chosen and measured on the same rows.",
        f"Bundle: {out / 'bundle'}",
        *([f"Submission: {out / 'submission.csv'}"] if (out / "submission.csv").is_file() else []),
        f"Next: hpa-search predict {out / 'bundle'} IMAGES --out submission.csv, or hpa-search tensorboard {out}",
    ]
    return lines


def _differs(difference: dict[str, float]) -> bool:
    return difference["low"] > 0 or difference["high"] < 0


def _interval(found: dict[str, float]) -> str:
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}] {found['level']:.0%}"
