"""Writing the winner: the members' weights, how to combine them, and the thresholds."""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpa_search.bundle.manifest import FORMAT, MANIFEST, Manifest, Member, sha256
from hpa_search.config import TrialConfig
from hpa_search.data.kaggle import COLOURS
from hpa_search.files import write_json
from hpa_search.labels import LABELS
from hpa_search.scoring.thresholds import DecisionRule


@dataclass(frozen=True)
class Candidate:
    """A trial at an epoch whose weights exist."""

    trial: int
    epoch: int
    config: TrialConfig
    weights: Path


def write_bundle(
    bundle: Path,
    name: str,
    members: Sequence[tuple[Candidate, float]],
    rule: DecisionRule,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    provenance: Mapping[str, Any],
) -> Manifest:
    """Write a bundle of ``members`` with their weights, replacing one that is there, whole or not at all."""
    building = bundle.with_name(f".{bundle.name}.{uuid.uuid4().hex[:8]}")
    building.mkdir(parents=True)
    try:
        manifest = Manifest(
            format=FORMAT,
            name=name,
            labels=LABELS,
            channels=COLOURS,
            mean=tuple(mean),  # type: ignore[arg-type]
            std=tuple(std),  # type: ignore[arg-type]
            members=tuple(_copy(building, candidate, weight) for candidate, weight in members),
            rule=rule.to_json(),
            provenance=dict(provenance),
        )
        write_json(building / MANIFEST, manifest.model_dump(mode="json"))
        publish(building, bundle)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def _copy(building: Path, candidate: Candidate, weight: float) -> Member:
    file = f"trial-{candidate.trial:04d}-epoch-{candidate.epoch:03d}.safetensors"
    shutil.copyfile(candidate.weights, building / file)
    return Member(
        trial=candidate.trial,
        epoch=candidate.epoch,
        weight=weight,
        config=candidate.config,
        file=file,
        sha256=sha256(building / file),
    )


def publish(building: Path, bundle: Path) -> None:
    """Put the new bundle in the old one's place; at no moment is there a bundle that is half of each."""
    old = building.with_name(f"{building.name}.old")
    if bundle.exists():
        bundle.rename(old)
    try:
        building.rename(bundle)
    except OSError:
        if old.exists():
            old.rename(bundle)
        raise
    shutil.rmtree(old, ignore_errors=True)
