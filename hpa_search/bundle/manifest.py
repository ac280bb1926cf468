"""The JSON file of a bundle as frozen records, and the check of its files by hash.

Nothing here or in `predict` unpickles: weights are safetensors, and the rest is JSON.
"""

import hashlib
from codecs import BOM_UTF8
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from hpa_search.config import Record, TestTime, TrialConfig, bounded
from hpa_search.errors import UserError
from hpa_search.explain import explain
from hpa_search.kinds import START, foreign, kind_of
from hpa_search.labels import LABELS, NUM_LABELS, to_vector
from hpa_search.rounding import settled
from hpa_search.scoring.final import Ensemble
from hpa_search.scoring.records import Calibration, Rule, check_weights, combined
from hpa_search.scoring.thresholds import DecisionRule
from hpa_search.stains import COLOURS
from hpa_search.system_errors import hides_content, refused

MANIFEST = "bundle.json"
FORMAT = 3


class Member(Record):
    """One network of the ensemble: a trial of a search at an epoch.

    ``map`` brings the network's logits to the scale of the others before they are averaged. ``labels`` are the ids that the
    network was trained for, None for all. ``file`` holds the weights, and ``sha256`` is its hash.
    """

    search: str
    labels: tuple[Annotated[int, Field(ge=0, lt=NUM_LABELS)], ...] | None = None
    trial: int = Field(ge=0)
    epoch: int = Field(ge=1)
    weight: float = bounded(gt=0, le=1)
    map: Calibration
    config: TrialConfig
    file: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors$",
        description="the name of a .safetensors file in the bundle's own folder",
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits")


class OnnxFile(Record):
    """The whole ensemble as one graph in the bundle's folder.

    It takes images of ``pixels`` pixels. The record has no field for further files: the graph holds its weights. Predicting
    never opens the graph.
    """

    file: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.onnx$", description="the name of an .onnx file in the bundle's own folder"
    )
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits")
    size: int = Field(gt=0)
    pixels: int = Field(ge=1)


class Manifest(Record):
    """Everything that a bundle needs to predict, and its provenance.

    ``tta`` is the test-time augmentation of the members; see `config.TestTime`. ``onnx`` is None without a graph.
    """

    format: int
    name: str
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    mean: tuple[float, float, float, float]
    std: tuple[float, float, float, float]
    members: tuple[Member, ...] = Field(min_length=1)
    rule: Rule
    tta: TestTime = "none"
    onnx: OnnxFile | None = None
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not known to this version, which reads format {FORMAT}")
        if self.labels != LABELS or self.channels != COLOURS:
            raise ValueError("labels or channels are not those of this task")
        check_weights("members", self.members)
        object.__setattr__(self, "std", tuple(settled(std, 0.0) for std in self.std))
        if min(self.std) < 0:
            raise ValueError(f"std {list(self.std)} has a negative entry")
        return self

    @property
    def decision_rule(self) -> DecisionRule:
        """The calibration and thresholds of the ensemble."""
        return self.rule.decision

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble as a function of the members' logits (m, n, 28)."""
        return combined(self.members, self.rule, self.covers)

    @property
    def covers(self) -> NDArray[np.bool_]:
        """The labels (m, 28) that each member was trained for."""
        everything = np.ones(NUM_LABELS, dtype=bool)
        return np.stack([everything if m.labels is None else to_vector(m.labels) for m in self.members])


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest and check every file that it names.

    Raises UserError that names the file that is missing, damaged or foreign.
    """
    path = bundle / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        if hides_content(error):
            raise refused(error, path, doing="the bundle cannot be read") from None
        raise UserError(
            f"{bundle} is not a bundle: {MANIFEST} cannot be read ({error.strerror}); give the bundle/ of a search's --out"
        ) from None
    again = "The bundle is damaged or foreign; export it again with `hpa-search finish`"
    if kind := foreign(content[:START]):
        raise UserError(f"{path}: is {kind.what}{f'; {kind.remedy}' if kind.remedy else ''}\n{again}")
    try:
        manifest = Manifest.model_validate_json(content.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise UserError(f"{explain(error, str(path), Manifest)}\n{again}") from None
    for file in (*manifest.members, *((manifest.onnx,) if manifest.onnx else ())):
        _check_file(bundle / file.file, file.sha256)
    return manifest


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"{path}: missing from the bundle; export it again with `hpa-search finish`")
    found = sha256(path)
    if found != expected and (kind := kind_of(path)) and kind.remedy:
        raise UserError(f"{path}: damaged or foreign: it is {kind.what}; {kind.remedy}, or export it again")
    if found != expected:
        raise UserError(
            f"{path}: damaged or foreign: its SHA-256 is {found[:12]}…, the bundle's is {expected[:12]}…; export it again"
        )
