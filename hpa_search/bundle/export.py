"""Write a bundle: the weights of the members, their shares, and the thresholds."""

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
from hpa_search.errors import UserError
from hpa_search.files import check_writable, whole, write_json
from hpa_search.labels import LABELS, NUM_LABELS, to_vector
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.records import Calibration, Rule
from hpa_search.scoring.thresholds import DecisionRule
from hpa_search.stains import COLOURS


@dataclass(frozen=True)
class Candidate:
    """A trial of a search at an epoch whose weights exist.

    ``labels`` are the ids that the trial was trained for, None for all.
    """

    search: str
    trial: int
    epoch: int
    config: TrialConfig
    weights: Path
    labels: tuple[int, ...] | None = None

    @property
    def covers(self) -> NDArray[np.bool_]:
        """The labels (28,) that the trial was trained for."""
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
    """Write a bundle of ``members`` with their weights and maps into a fresh folder; return its manifest.

    Files that a killed export left in the folder are removed. ``tta`` is the test-time augmentation of the members. The
    ``rule`` must be fitted to their logits under ``tta``.
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
    # The number comes first, because two searches may have one name.
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
    """Replace the path of the weights that training started from by the file's name.

    The folder of that file is this machine's own.
    """
    start = Path(config.weights)
    return config.model_copy(update={"weights": f"file {start.name}"}) if start.is_absolute() else config


_ENDINGS = (".json", ".safetensors", ".onnx", ".md", ".data")
"""The endings of the files in a bundle."""


def check_place(bundle: Path) -> None:
    """Raise OSError if `publish` could not put a bundle here.

    The folder above must exist, and the folder above a link's target too. Raises UserError if ``bundle`` is a link to a
    folder of other files, which `publish` would remove.
    """
    _check_ours(bundle)
    folder = Path(os.path.realpath(bundle)).parent
    folder.stat()
    check_writable(folder / ".bundle")


def publish(building: Path, bundle: Path) -> None:
    """Replace the old bundle by the new; no reader ever finds half of each.

    The old bundle is renamed to a hidden folder first. A kill between the two renames leaves it there alone. The next
    `publish` removes it. A symbolic link ``bundle`` stays a link. Its target is replaced, or made if it does not exist.
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
    """Refuse a link to a folder of other files, which somebody may want to keep."""
    if not bundle.is_symlink() or not bundle.exists():
        return
    found = [] if bundle.is_dir() else [Path(os.path.realpath(bundle))]
    if bundle.is_dir():
        found = [path for path in bundle.iterdir() if path.is_dir() or path.suffix not in _ENDINGS]
        if not found and any(bundle.iterdir()) and not (bundle / MANIFEST).is_file():
            found = list(bundle.iterdir())
    if found:
        raise UserError(
            f"{bundle} is a link to {os.path.realpath(bundle)}, which holds other files than a bundle's ({found[0].name}); "
            "link it to a folder of its own, which need not exist yet"
        )


def _brought_beside(building: Path, bundle: Path) -> Path:
    """Move the new bundle next to the old one, perhaps to another disk. Return its path."""
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
