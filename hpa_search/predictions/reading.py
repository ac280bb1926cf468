"""Read predictions that were made anywhere, and refuse those that cannot be right."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.data.naming import text_fault
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS
from hpa_search.predictions.archive import Archive
from hpa_search.predictions.sheet import Sheet
from hpa_search.predictions.values import MANY, Scale, advice, beyond, scale_of
from hpa_search.rounding import digits_outside
from hpa_search.scoring.calibration import LARGEST_LOGIT, logit
from hpa_search.scoring.metrics import Booleans, as_labels

Source = Archive | Sheet
SOURCES: dict[str, type[Archive] | type[Sheet]] = {".npz": Archive, ".csv": Sheet}


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits, float32 (m, n, 28) within +-50, of the models ``names`` (m) for the rows ``ids`` (n).

    ``labels`` are bool (n, 28) and ``groups`` text (n,). Each is None if it was not asked for, or if the file lacks it.
    """

    ids: tuple[str, ...]
    labels: Booleans | None
    groups: NDArray[np.str_] | None
    names: tuple[str, ...]
    logits: NDArray[np.float32]

    def __post_init__(self) -> None:
        rows = len(self.ids)
        if self.logits.shape != (len(self.names), rows, NUM_LABELS):
            raise ValueError(f"logits {self.logits.shape} do not fit {len(self.names)} models and {rows} rows")
        if self.labels is not None and self.labels.shape != (rows, NUM_LABELS):
            raise ValueError(f"labels {self.labels.shape} do not fit {rows} rows")
        if self.groups is not None and self.groups.shape != (rows,):
            raise ValueError(f"groups {self.groups.shape} do not fit {rows} rows")


def read_labelled(path: Path, *, logits: bool = False) -> Predictions:
    """Read the predictions of all models in ``path`` with the labels of the rows.

    An .npz file has the arrays `ids` (n,), `labels` (n, 28) of 0 and 1, and perhaps `groups` (n,). Every other array (n, 28)
    is a model's. A .csv file has the columns Id, Target (label ids, "16 0") and perhaps Group. Each model has the columns
    NAME_0 ... NAME_27. The values are probabilities, or logits if ``logits`` is true.
    Raises UserError that names the file, the model, the row, and what to do.
    """
    with _opened(path) as source:
        labels, groups = _labels(source), source.groups()
        if groups is not None and groups.shape != (len(source.ids),):
            raise UserError(f"{path}: {len(groups)} groups for {len(source.ids)} rows; expected one for each row")
        if not source.names:
            raise UserError(f"{path}: no model in it; add an array (n, {NUM_LABELS}) or {NUM_LABELS} columns for each model")
        members = _members(source, source.names, logits)
        for name, member in zip(source.names, members, strict=True):
            if len(source.ids) > 1 and member.min() == member.max():
                raise UserError(f"{path}: model '{name}' has one value for every row and class; leave it out")
        return Predictions(source.ids, labels, groups, source.names, members)


def read_unlabelled(path: Path, names: Sequence[str], *, logits: bool = False) -> Predictions:
    """Read the predictions of the models ``names`` alone, in their order, without labels.

    Raises UserError as `read_labelled` does, and for a model that the file lacks.
    """
    with _opened(path) as source:
        if lacking := [name for name in names if name not in source.names]:
            there = ", ".join(f"'{name}'" for name in source.names) or "none"
            raise UserError(
                f"{path}: lacks the model(s) {', '.join(map(repr, lacking))}, which the ensemble needs; it has {there}. "
                "Predict these rows with the same models, under the same names"
            )
        return Predictions(source.ids, None, None, tuple(names), _members(source, names, logits))


@contextmanager
def _opened(path: Path) -> Iterator[Source]:
    kind = SOURCES.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: predictions are read from {' and '.join(SOURCES)} files; convert it to one of these")
    source = kind(path)
    try:
        _check_ids(path, source.ids)
        yield source
    finally:
        source.close()


def _check_ids(path: Path, ids: Sequence[str]) -> None:
    if not ids:
        raise UserError(f"{path}: no rows in it; write a row for each image")
    places: dict[str, int] = {}
    for row, identifier in enumerate(ids, start=1):
        if not identifier.strip():
            raise UserError(f"{path}: row {row} has an empty Id; give every row an Id of its own")
        if (fault := text_fault(identifier)) is not None:
            raise UserError(f"{path}: row {row}: {fault}")
        if identifier in places:
            raise UserError(
                f"{path}: Id '{identifier}' is in rows {places[identifier]} and {row}; keep one, "
                "or, if these are several images, name them apart and give them one group"
            )
        places[identifier] = row


def _labels(source: Source) -> Booleans:
    found = source.labels()
    if found is None:
        raise UserError(
            f"{source.path}: no labels (array 'labels' or column 'Target'); add them, "
            "because an ensemble is chosen on rows with known labels"
        )
    if found.shape != (len(source.ids), NUM_LABELS):
        raise UserError(f"{source.path}: labels have shape {found.shape}; expected {(len(source.ids), NUM_LABELS)} of 0 and 1")
    try:
        labels = as_labels(found)
    except ValueError as error:
        raise UserError(f"{source.path}: {error}; write 1 where a row has the label, and 0 elsewhere") from None
    if not labels.any():
        raise UserError(f"{source.path}: no row has any label; an ensemble is chosen on rows with known labels")
    return labels


def _members(source: Source, names: Sequence[str], logits: bool) -> NDArray[np.float32]:
    """Return the logits (m, n, 28) of the models ``names``."""
    members = np.empty((len(names), len(source.ids), NUM_LABELS), dtype=np.float32)
    for place, name in enumerate(names):
        values = source.values(name)
        _check_values(source, name, values)
        if fault := _scale_fault(source, values, logits):
            remedy = _mixed(source, values, [other for other in names if other != name]) or _remedy(values, logits)
            raise UserError(f"{source.path}: model '{name}': {fault}; {remedy}")
        members[place] = np.clip(values, -LARGEST_LOGIT, LARGEST_LOGIT) if logits else logit(values)
    return members


def _check_values(source: Source, name: str, values: NDArray[Any]) -> None:
    where, shape = f"{source.path}: model '{name}'", (len(source.ids), NUM_LABELS)
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise UserError(f"{where}: {values.dtype} of shape {values.shape}; expected numbers of shape {shape}, a row for each Id")
    if (missing := ~np.isfinite(values)).any():
        raise UserError(f"{where}: NaN or infinite for {_first(source, missing)}; leave the model or the row out")


def _scale_fault(source: Source, values: NDArray[Any], logits: bool) -> str:
    """Return the fault of ``values`` that should be logits, or probabilities; an empty text without a fault."""
    outside = beyond(values)
    if not outside.any():
        # One constant fits either scale; `read_labelled` refuses such a model.
        same = values.min() == values.max()
        return "all values lie between 0 and 1, as probabilities do" if logits and not same else ""
    if logits and outside.mean() > MANY:
        return ""
    but = f"all values but {int(outside.sum())} lie between 0 and 1, as probabilities do, and " if logits else ""
    return f"{but}{digits_outside(values.flat[outside.argmax()])} for {_first(source, outside)} lies outside 0 to 1"


def _remedy(values: NDArray[Any], logits: bool) -> str:
    """Return the remedy for faulty ``values`` of a file whose models are all on one scale."""
    if not logits:
        return advice(scale_of(values))
    others = ", and correct the others" if beyond(values).any() else ""
    return f"leave --logits out{others} (real logits are mostly below 0; give the sigmoid of these, if they are such)"


def _mixed(source: Source, values: NDArray[Any], others: Sequence[str]) -> str:
    """Return the remedy if ``values`` are logits and one of the ``others`` has probabilities, or the reverse.

    The remedy is an empty text if all are on one scale.
    """
    mine = _are_logits(values)
    for other in others if mine is not None else ():
        with suppress(UserError):  # the other model may be at fault too
            if _are_logits(source.values(other)) is (not mine):
                kinds = ("logits", "probabilities") if mine else ("probabilities", "logits")
                return (
                    f"these look like {kinds[0]} and those of model '{other}' like {kinds[1]}: bring all to probabilities, "
                    "1 / (1 + exp(-logit)), without --logits, or all to logits and add --logits"
                )
    return ""


def _are_logits(values: NDArray[Any]) -> bool | None:
    """Return whether ``values`` are logits rather than probabilities, None if they are neither."""
    if values.dtype.kind not in "fiu" or not values.size or not np.isfinite(values).all():
        return None
    outside = beyond(values)
    if outside.mean() > MANY:
        return True if scale_of(values) is Scale.LOGITS else None
    return None if outside.any() else False


def _first(source: Source, marked: NDArray[np.bool_]) -> str:
    """Return the place of the first marked value, and the number of the others."""
    row, label = np.unravel_index(marked.argmax(), marked.shape)
    count = int(marked.sum())
    return f"Id '{source.ids[row]}', label {label}{f' (and {count - 1} more)' if count > 1 else ''}"
