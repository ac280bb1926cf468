"""Which images are to be labelled, and in which order: those of a folder, of a dataset, or of a list."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import image_ids, read_dataset, read_test_ids
from hpa_search.errors import UserError

Entry = tuple[int, str]
"""A line of a list and the Id on it."""


def find_images(images: Path, listed: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of the images and their ids.

    ``images`` is a folder of <Id>_<colour>.png or a dataset: its test/ in the order of sample_submission.csv, else its
    train/ in that of train.csv. With ``listed``, the ids of that file in its order, of whichever folder of a dataset has
    them. Raises UserError where there are no images, or the list is at fault; then each of its faults by line.
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
    ids = image_ids(folder)
    if not ids:
        raise UserError(f"{folder}: no images here; their files are named <Id>_red.png, _green.png, _blue.png, _yellow.png")
    return folder, ids


def _listed_images(images: Path, listed: Path) -> tuple[Path, tuple[str, ...]]:
    entries = read_list(listed)
    wanted = {identifier for _, identifier in entries}
    folders = [folder for name in ("test", "train") if (folder := images / name).is_dir()] or [images]
    there = {folder: set(image_ids(folder)) for folder in folders}
    folder = max(folders, key=lambda candidate: len(wanted & there[candidate]))
    unknown = [
        f"line {line}: Id '{identifier}' has no image in {folder}"
        for line, identifier in entries
        if identifier not in there[folder]
    ]
    if unknown:
        raise DatasetFaults(listed, unknown)
    return folder, tuple(identifier for _, identifier in entries)


def read_list(path: Path) -> list[Entry]:
    """Read the ids of a text or CSV file with their lines: one Id a line, or the column of a header that has `Id`.

    Blank lines are passed over. Raises UserError where the file is no such list, DatasetFaults that names the lines of
    Ids that are empty or there before.
    """
    rows = _rows(path)
    if not rows:
        raise UserError(f"{path}: no Id in it; expected one a line, or CSV with a column Id")
    column = rows[0][1].index("Id") if "Id" in rows[0][1] else None
    entries: list[Entry] = []
    faults: list[str] = []
    lines: dict[str, int] = {}
    for line, values in rows if column is None else rows[1:]:
        fault, identifier = _identifier(values, column)
        if not fault and identifier in lines:
            fault = f"Id '{identifier}' is already on line {lines[identifier]}"
        if fault:
            faults.append(f"line {line}: {fault}")
            continue
        lines[identifier] = line
        entries.append((line, identifier))
    if faults:
        raise DatasetFaults(path, faults)
    if not entries:
        raise UserError(f"{path}: no Id below its header")
    return entries


def _identifier(values: Sequence[str], column: int | None) -> tuple[str, str]:
    """Return what is wrong with the values of a line, or an empty text, and the Id."""
    if column is None and len(values) != 1:
        return f"{len(values)} values; expected one Id a line, or a header with a column Id", ""
    identifier = values[column or 0] if len(values) > (column or 0) else ""
    return ("" if identifier else "no Id"), identifier


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that are not blank, split at commas, with their numbers."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        return [(reader.line_num, stripped) for values in reader if any(stripped := [value.strip() for value in values])]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give --list a file of Ids") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no text or CSV file ({error}); give --list a file of Ids") from None
