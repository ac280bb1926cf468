"""Find the images to label, and their order."""

import os
from collections.abc import Sequence
from pathlib import Path

from hpa_search.data.faults import DatasetFaults, missing
from hpa_search.data.kaggle import check_channels, image_ids, listed_ids, read_dataset, read_test_ids
from hpa_search.data.naming import Ids, image_file, other_form
from hpa_search.data.tables import Row, read_records
from hpa_search.errors import UserError
from hpa_search.stains import COLOURS

Entry = tuple[int, str]
"""A line of a list and the Id on it."""


def find_images(images: Path, listed: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of the images and their ids.

    ``images`` is a folder of <Id>_<colour>.png, or a dataset. A dataset with a test/ gives its images in the order of
    sample_submission.csv. Another dataset gives its train/ in the order of train.csv. ``listed`` is a file of ids. These are
    returned in their order, from the part of the dataset that has most of them.
    Raises UserError without images, and DatasetFaults for faulty Ids, file names, or lines of the list.
    """
    if not images.is_dir():
        raise UserError(f"{images} is not a folder; give a folder of <Id>_<colour>.png or a dataset")
    if listed is not None:
        return _listed_images(images, listed)
    if test_ids := read_test_ids(images):
        return images / "test", test_ids
    if (images / "train.csv").is_file():
        return images / "train", read_dataset(images).ids
    folder = images / "train" if (images / "train").is_dir() else images
    faults: list[str] = []
    ids = listed_ids(folder, faults)
    if faults:
        raise DatasetFaults(folder, faults)
    if not ids:
        raise UserError(
            f"{folder}: no images here; their files are named {', '.join(image_file('<Id>', colour) for colour in COLOURS)}"
        )
    return folder, ids


def _listed_images(images: Path, listed: Path) -> tuple[Path, tuple[str, ...]]:
    entries = read_list(listed)
    wanted = {identifier for _, identifier in entries}
    folders = [folder for name in ("test", "train") if (folder := images / name).is_dir()] or [images]
    there = {folder: set(image_ids(folder)) for folder in folders}
    folder = max(folders, key=lambda candidate: len(wanted & there[candidate]))
    unknown = [
        f"line {line}: Id '{identifier}' has no image in {folder}{_hint(identifier, there[folder])}"
        for line, identifier in entries
        if identifier not in there[folder]
    ]
    if unknown:
        raise DatasetFaults(listed, unknown)
    faults: list[str] = []
    ids = tuple(identifier for _, identifier in entries)
    check_channels(folder, ids, faults)
    if faults:
        raise DatasetFaults(folder, faults)
    return folder, ids


def _hint(identifier: str, there: set[str]) -> str:
    """Return the Id that an unknown Id may mean, as the end of a message, or an empty text."""
    stem = identifier.removesuffix(".png")
    meant = next((short for colour in COLOURS if (short := stem.removesuffix(f"_{colour}")) in there), None)
    meant = meant or other_form(identifier, there)
    return f"; '{meant}' has one" if meant else ""


def read_list(path: Path) -> list[Entry]:
    """Read the ids of a text or CSV file with their line numbers.

    The file has one Id a line, or a header with the column `Id`. Blank lines are skipped.
    Raises UserError for a file of another kind. Raises DatasetFaults with the lines of Ids that are empty, repeated, or not
    possible for an image.
    """
    rows = _rows(path)
    if not rows:
        raise UserError(f"{path}: no Id in it; write one Id a line, or CSV with a column Id")
    column = rows[0].values.index("Id") if "Id" in rows[0].values else None
    faults: list[str] = []
    ids = Ids("", faults)
    for line, values in rows if column is None else rows[1:]:
        fault, identifier = _identifier(values, column)
        if fault:
            faults.append(f"line {line}: {fault}")
        else:
            ids.add(identifier, line)
    if faults:
        raise DatasetFaults(path, faults)
    if not ids.lines:
        raise UserError(f"{path}: no Id below its header; write one Id a line")
    return [(line, identifier) for identifier, line in ids.lines.items()]


def _identifier(values: Sequence[str], column: int | None) -> tuple[str, str]:
    """Return the fault of a line's values, or an empty text, and the Id."""
    if column is None and len(values) != 1:
        return f"{len(values)} values; expected one Id a line, or a header with a column Id", ""
    identifier = values[column or 0] if len(values) > (column or 0) else ""
    return ("" if identifier else "no Id"), identifier


def _rows(path: Path) -> list[Row]:
    """Return the lines that are not blank, with their numbers, split into stripped values."""
    if why := _unreadable(path):
        raise UserError(f"{path}: cannot be read ({why}); give --list a file of Ids")
    faults: list[str] = []
    records = read_records(path, ("Id",), faults)
    if records is None:
        raise UserError(f"{path.parent / faults[0]}; so it is not a text or CSV file in UTF-8; give --list a file of Ids")
    stripped = (Row(line, tuple(value.strip() for value in values)) for line, values in records)
    return [row for row in stripped if any(row.values)]


def _unreadable(path: Path) -> str:
    """Return why the file ``path`` cannot be read, or an empty text."""
    if path.is_dir():
        return "a folder"
    # Asked, not tried: the path may be a pipe, which can be read only once.
    if not path.exists():
        return missing(path)
    return "" if os.access(path, os.R_OK) else "no permission"
