"""The final stage, in order: choose, export, measure what was exported, publish, label the test images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpa_search.bundle.card import write_card
from hpa_search.bundle.export import publish, write_bundle
from hpa_search.bundle.manifest import Manifest
from hpa_search.bundle.predict import bundle_probabilities
from hpa_search.bundle.submission import write_submission
from hpa_search.data.kaggle import Dataset
from hpa_search.data.packed import pack
from hpa_search.files import write_json
from hpa_search.finish.material import Material, read_material
from hpa_search.finish.measure import measure
from hpa_search.scoring.final import FinalChoice


def finish(
    out: Path, cache: Path, *, data: Path | None = None, also: Sequence[Path] = (), say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Choose the ensemble of the search in ``out`` from what is there now, export it, and return what was measured.

    Writes bundle/, result.json and, where the dataset has a test/, submission.csv. ``data`` is where the dataset is
    now, if it was moved; ``also`` are other searches on the same split, whose trials may become members too, those of
    a search restricted to some labels for these labels alone. Raises UserError if no trial has finished an epoch.
    """
    material = read_material(out, cache, data, also, say)
    final = material.search.final
    choice = FinalChoice(
        classes=material.pool.classes,
        trained=material.pool.trained,
        rounds=final.rounds,
        max_members=final.max_members,
        covers=material.pool.covers,
    )
    say(f"Choosing among {len(material.pool.candidates)} candidates on {len(material.split.validation)} validation images.")
    building = out / ".bundle"
    manifest = _export(material, choice, building)
    result = measure(material, choice, building, manifest)
    write_card(building, manifest, result)
    publish(building, out / "bundle")
    write_json(out / "result.json", result)
    if material.dataset.test_ids:
        _submit(out, manifest, material.dataset, cache)
    return result


def _export(material: Material, choice: FinalChoice, bundle: Path) -> Manifest:
    ensemble = choice(material.pool.logits, material.labels(material.split.validation))
    members = [(material.pool.candidates[i], float(ensemble.weights[i])) for i in np.flatnonzero(ensemble.weights)]
    provenance = material.provenance
    kept = provenance.model_dump(mode="json", include={"version", "fingerprint", "images", "native_size", "packages"})
    return write_bundle(
        bundle,
        material.search.name,
        members,
        ensemble.rule,
        mean=provenance.mean,
        std=provenance.std,
        provenance={**kept, "external": material.pool.external},
    )


def _submit(out: Path, manifest: Manifest, dataset: Dataset, cache: Path) -> None:
    images = pack(dataset.test_folder, dataset.test_ids, cache)
    probabilities = bundle_probabilities(out / "bundle", manifest, images, np.arange(len(images)))
    write_submission(out / "submission.csv", dataset.test_ids, manifest.decision_rule.decide(probabilities).labels)
