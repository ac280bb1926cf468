"""Writing the winner: the members' weights, how to combine them, and the thresholds."""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.manifest import FORMAT, MANIFEST, Manifest, Member, sha256
from hpa_search.config import TestTime, TrialConfig
from hpa_search.data.kaggle import COLOURS
from hpa_search.errors import UserError
from hpa_search.files import check_writable, whole, write_json
from hpa_search.labels import LABELS, NUM_LABELS, to_vector
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.records import Calibration, Rule
from hpa_search.scoring.thresholds import DecisionRule


@dataclass(frozen=True)
class Candidate:
    """A trial of a search at an epoch whose weights exist; ``labels`` are the only ones it was trained for, None for all."""

    search: str
    trial: int
    epoch: int
    config: TrialConfig
    weights: Path
    labels: tuple[int, ...] | None = None

    @property
    def covers(self) -> NDArray[np.bool_]:
        """The classes (28,) that it was trained for."""
        return np.ones(NUM_LABELS, dtype=bool) if self.labels is None else to_vector(self.labels)


def write_bundle(
    bundle: Path,
    name: str,
    members: Sequence[tuple[Candidate, float, Platt]],
    rule: DecisionRule,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    provenance: Mapping[str, Any],
    tta: TestTime = "none",
) -> Manifest:
    """Write a bundle of ``members`` with their weights and maps into a fresh folder; what a killed export left there goes.

    ``tta`` is how the members judge an image; the ``rule`` is to have been fitted to their logits under it.
    """
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        labels=LABELS,
        channels=COLOURS,
        mean=tuple(mean),  # type: ignore[arg-type]
        std=tuple(std),  # type: ignore[arg-type]
        members=tuple(_copy(bundle, place, *member) for place, member in enumerate(members)),
        rule=Rule.of(rule),
        tta=tta,
        provenance=dict(provenance),
    )
    write_json(bundle / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _copy(bundle: Path, place: int, candidate: Candidate, weight: float, platt: Platt) -> Member:
    # Two searches may have one name.
    file = f"member-{place:02d}-{candidate.search}-trial-{candidate.trial:04d}-epoch-{candidate.epoch:03d}.safetensors"
    shutil.copyfile(candidate.weights, bundle / file)
    return Member(
        search=candidate.search,
        labels=candidate.labels,
        trial=candidate.trial,
        epoch=candidate.epoch,
        weight=weight,
        map=Calibration.of(platt),
        config=_without_place(candidate.config),
        file=file,
        sha256=sha256(bundle / file),
    )


def _without_place(config: TrialConfig) -> TrialConfig:
    """Name the file of weights that training started from without its folder, which is of this machine alone."""
    start = Path(config.weights)
    return config.model_copy(update={"weights": f"file {start.name}"}) if start.is_absolute() else config


_ENDINGS = (".json", ".safetensors", ".onnx", ".md", ".data")
"""How the names of a bundle's files end."""


def check_place(bundle: Path) -> None:
    """Raise OSError where `publish` could not put a bundle: its folder has to be there, also that of a link's target.

    Raises UserError where ``bundle`` is a link to a folder of other files, which would go with the old bundle.
    """
    _check_ours(bundle)
    folder = Path(os.path.realpath(bundle)).parent
    folder.stat()
    check_writable(folder / ".bundle")


def publish(building: Path, bundle: Path) -> None:
    """Put the new bundle in the old one's place; at no moment is there a bundle that is half of each.

    The old one steps aside to a hidden folder meanwhile. A kill between the two renames leaves it there, alone;
    then it goes once the next bundle is in place. Where ``bundle`` is a symbolic link, it stays one: the folder that it
    names, be it there or not, is the bundle.
    """
    if bundle.is_symlink():
        _check_ours(bundle)
        bundle = Path(os.path.realpath(bundle))
        building = _brought_beside(building, bundle)
    old = bundle.with_name(f".{bundle.name}.old")
    try:
        if bundle.exists():
            shutil.rmtree(old, ignore_errors=True)
            bundle.rename(old)
        building.rename(bundle)
    except OSError as error:
        if old.exists() and not bundle.exists():
            old.rename(bundle)
        error.filename, error.filename2 = str(bundle), None
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_ours(bundle: Path) -> None:
    """Refuse a link to what is no bundle: whoever made it may keep other things there."""
    if not bundle.is_symlink() or not bundle.exists():
        return
    found = [] if bundle.is_dir() else [Path(os.path.realpath(bundle))]
    if bundle.is_dir():
        found = [path for path in bundle.iterdir() if path.is_dir() or path.suffix not in _ENDINGS]
        if not found and any(bundle.iterdir()) and not (bundle / MANIFEST).is_file():
            found = list(bundle.iterdir())
    if found:
        raise UserError(
            f"{bundle} is a link to {os.path.realpath(bundle)}, which holds what is no bundle's ({found[0].name}); link it to a "
            "folder of its own, which need not be there yet"
        )


def _brought_beside(building: Path, bundle: Path) -> Path:
    """Move the new bundle to the folder of the old one, which may be on another disk; return where it is."""
    beside = bundle.with_name(f".{bundle.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        building.rename(beside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        try:
            shutil.copytree(building, beside, copy_function=_copy_file)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        shutil.rmtree(building)
    return beside


def _copy_file(source: str, target: str) -> None:
    with whole(Path(target)) as temporary:
        shutil.copyfile(source, temporary)
