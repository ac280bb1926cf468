"""Writing the winner: the members' weights, how to combine them, the thresholds, and a card that says what it is."""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpa_search.bundle.manifest import FORMAT, MANIFEST, Manifest, Member, sha256
from hpa_search.config import TrialConfig
from hpa_search.data.kaggle import COLOURS
from hpa_search.files import write_json, write_text
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
        _replace(bundle, building)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def write_card(bundle: Path, manifest: Manifest, result: Mapping[str, Any]) -> None:
    """Write the model card: what was measured and on which rows, the members, the thresholds of each class."""
    write_text(
        bundle / "MODEL_CARD.md",
        "\n".join([*_card_head(manifest, result), "", *_card_members(manifest), "", *_card_classes(manifest, result)]) + "\n",
    )


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


def _replace(bundle: Path, building: Path) -> None:
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


def _card_head(manifest: Manifest, result: Mapping[str, Any]) -> list[str]:
    lines = [f"# {manifest.name}", "", "An ensemble that labels images of four stained channels with 28 protein locations.", ""]
    if result["test"] is not None:
        test = result["test"]["ensemble"]
        lines += [
            f"- Test macro F1: {_interval(test)}, on {result['rows']['test']} images that nothing was chosen on.",
            f"- Best single trial, same rows: {_interval(result['test']['best_single'])}.",
            f"- Predicting every label on every image: {result['test']['floor']:.4f}.",
        ]
    nested = result["nested"]
    lines += [
        f"- Nested estimate on the validation rows: {_interval(nested)}.",
        f"- The naive number on the same rows, which chose everything: {nested['naive']:.4f} (optimism {nested['optimism']:+.4f}).",
    ]
    return lines


def _card_members(manifest: Manifest) -> list[str]:
    rows = [
        f"| {member.trial} | {member.epoch} | {member.weight:.2f} | {member.config.backbone} | {member.config.resolution} | "
        f"{member.config.input_size} | {member.config.channels} | {member.config.loss} |"
        for member in manifest.members
    ]
    return [
        "## Members",
        "",
        "| trial | epoch | weight | backbone | resolution | px | channels | loss |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _card_classes(manifest: Manifest, result: Mapping[str, Any]) -> list[str]:
    thresholds = manifest.decision_rule.thresholds
    rows = [
        f"| {index} | {name} | {result['positives']['validation'][index]} | {result['positives']['test'][index]} | {thresholds[index]:.4f} | "
        f"{'' if result['test'] is None else format(result['test']['f1_per_class'][index], '.3f')} |"
        for index, name in enumerate(manifest.labels)
    ]
    head = ["| id | label | positives, validation | positives, test | threshold | F1, test |", "|---|---|---|---|---|---|"]
    return ["## Classes", "", "A threshold is on the calibrated probability.", "", *head, *rows]


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:.4f} ({found['level']:.0%} interval {found['low']:.4f} to {found['high']:.4f})"
