"""A dataset in the layout of the Kaggle competition.

    DIR/train.csv               Id,Target      one row an image; Target is label ids such as "16 0"
    DIR/train/<Id>_<colour>.png                four 8-bit grey files an image, all square and of one size
    DIR/groups.csv              Id,Group       optional: images that a split must keep together
    DIR/test/<Id>_<colour>.png                 optional: images without labels
    DIR/sample_submission.csv   Id,Predicted   optional: the order of the test images

This module reads the tables and the file names. `hpa_search.data.packed` reads the pixels. It refuses images that are not
square: the networks take square images.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hpa_search.data.faults import DatasetFaults, missing
from hpa_search.data.naming import Channels, Ids, find_channels, id_fault, printable
from hpa_search.data.naming import image_file as image_file
from hpa_search.data.tables import read_table
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS, parse_target, to_vector
from hpa_search.stains import COLOURS
from hpa_search.system_errors import refused

Folder = Literal["train", "test"]
"""The images with labels, or those without."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The tables of one dataset.

    Row i of every field but ``test_ids`` is the image ``ids[i]``. ``labels`` is bool (n, 28). ``groups`` names each image's
    group, None without groups.csv. An image that groups.csv does not name is its own group. ``test_ids`` follows
    sample_submission.csv. Without that file it is sorted; without a folder test/ it is empty.
    """

    root: Path
    ids: tuple[str, ...]
    labels: np.ndarray
    groups: tuple[str, ...] | None
    test_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.ids), NUM_LABELS) or self.labels.dtype != bool:
            raise ValueError(f"labels are {self.labels.dtype} {self.labels.shape}; expected bool {(len(self.ids), NUM_LABELS)}")
        if self.groups is not None and len(self.groups) != len(self.ids):
            raise ValueError(f"{len(self.groups)} groups for {len(self.ids)} images")

    @property
    def train_folder(self) -> Path:
        """The folder of the labelled images."""
        return self.root / "train"

    @property
    def test_folder(self) -> Path:
        """The folder of the images without labels."""
        return self.root / "test"

    def files_of(self, folder: Folder) -> tuple[Path, tuple[str, ...]]:
        """Return the path of ``folder`` and the ids of its images."""
        return (self.train_folder, self.ids) if folder == "train" else (self.test_folder, self.test_ids)


def read_dataset(root: Path) -> Dataset:
    """Read the tables of a dataset and find the files of every image.

    The pixels are not read. Raises DatasetFaults that lists every fault of every table. Raises UserError where ``root`` is
    not a folder.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; expected a dataset with train.csv and train/")
    faults: list[str] = []
    targets = _read_targets(root, faults)
    groups = _read_groups(root, targets, faults)
    test_ids = _read_test_ids(root, faults)
    if faults or targets is None:
        raise DatasetFaults(root, faults)
    labels = np.stack([to_vector(target) for target in targets.values()])
    return Dataset(root, tuple(targets), labels, groups, test_ids)


def read_tables(root: Path) -> Dataset:
    """Read the labels and groups of a dataset whose images may be absent.

    ``test_ids`` are empty. Raises DatasetFaults that lists every fault of both tables.
    """
    faults: list[str] = []
    targets = _read_targets(root, faults, files=False)
    groups = _read_groups(root, targets, faults)
    if faults or targets is None:
        raise DatasetFaults(root, faults)
    return Dataset(root, tuple(targets), np.stack([to_vector(target) for target in targets.values()]), groups, ())


def read_test_ids(root: Path) -> tuple[str, ...]:
    """Read the Ids of the test images alone, as in `Dataset.test_ids`.

    Raises DatasetFaults that lists every fault of them.
    """
    faults: list[str] = []
    ids = _read_test_ids(root, faults)
    if faults:
        raise DatasetFaults(root, faults)
    return ids


def image_ids(folder: Path) -> tuple[str, ...]:
    """Return the sorted Ids of the images in ``folder``.

    An image counts if it has a sound channel, or two unfit channels. Hidden files are skipped. Raises UserError if the folder
    cannot be listed.
    """
    return tuple(_listed(folder).images())


def listed_ids(folder: Path, faults: list[str]) -> tuple[str, ...]:
    """Return the sorted Ids of all images in a ``folder`` without a table.

    Adds a fault for each Id that a table cannot hold. Adds a fault for each unfit or missing file.
    """
    try:
        ids = image_ids(folder)
    except UserError as error:
        faults.append(str(error))
        return ()
    for identifier in ids:
        if (fault := id_fault(identifier)) is not None:
            faults.append(f"{folder.name}/{printable(identifier)}_*.png: {fault}")
    check_channels(folder, ids, faults)
    return ids


def check_channels(folder: Path, ids: Iterable[str], faults: list[str]) -> None:
    """Add a fault for each file that the images ``ids`` of ``folder`` lack.

    Raises UserError if the folder cannot be listed.
    """
    channels = _listed(folder)
    faults += [f"{folder.name}/{lack}" for identifier in ids for lack in channels.lacking(identifier)]


def _listed(folder: Path) -> Channels:
    try:
        return find_channels(folder)
    except OSError as error:
        raise refused(error, folder, doing="cannot be listed") from error


def _read_targets(root: Path, faults: list[str], *, files: bool = True) -> dict[str, tuple[int, ...]] | None:
    """Read train.csv as label ids by Id.

    Returns None if it is not a table. An Id with faulty labels gets no label ids. With ``files``, each Id must have its
    images in train/.
    """
    rows = read_table(root / "train.csv", ("Id", "Target"), faults)
    if rows is None:
        return None
    if not rows:
        faults.append("train.csv: has no rows; expected one for each image")
    ids, targets = Ids("train.csv, ", faults), {}
    for line, (identifier, target) in rows:
        if ids.add(identifier, line):
            try:
                targets[identifier] = parse_target(target)
            except ValueError as error:
                targets[identifier] = ()
                faults.append(f"train.csv, line {line}: {error}")
    if files:
        _compare_files(root / "train", "train.csv", ids.lines, faults)
    return targets


def _read_groups(root: Path, targets: dict[str, tuple[int, ...]] | None, faults: list[str]) -> tuple[str, ...] | None:
    """Read groups.csv as one name for each Id of train.csv.

    Returns None if it is missing or cannot be read.
    """
    path = root / "groups.csv"
    if not path.exists():
        return None
    rows = read_table(path, ("Id", "Group"), faults)
    if rows is None or targets is None:
        return None
    ids = Ids("groups.csv, ", faults)
    # The prefixes keep a group that is named like an image apart from that image's own group.
    names = {identifier: f"image {identifier}" for identifier in targets}
    for line, (identifier, group) in rows:
        if not ids.add(identifier, line):
            continue
        if identifier not in targets:
            faults.append(f"groups.csv, line {line}: Id '{identifier}' is not in train.csv")
        elif not group.strip():
            faults.append(f"groups.csv, line {line}: no group; leave the row out for an image that is a group of its own")
        else:
            names[identifier] = f"group {group}"
    return tuple(names.values())


def _read_test_ids(root: Path, faults: list[str]) -> tuple[str, ...]:
    """Return the Ids of the test images in the order of a submission."""
    if not (root / "test").exists():
        return ()
    if not (root / "sample_submission.csv").exists():
        return listed_ids(root / "test", faults)
    rows = read_table(root / "sample_submission.csv", ("Id", "Predicted"), faults)
    if rows is None:
        return ()
    ids = Ids("sample_submission.csv, ", faults)
    for line, (identifier, _) in rows:
        ids.add(identifier, line)
    _compare_files(root / "test", "sample_submission.csv", ids.lines, faults)
    return tuple(ids.lines)


def _compare_files(folder: Path, table: str, ids: dict[str, int], faults: list[str]) -> None:
    """Add a fault for each missing file, and for each image without a row."""
    try:
        channels = find_channels(folder)
    except OSError as error:
        faults.append(f"{folder.name}/: {missing(folder) if isinstance(error, FileNotFoundError) else error.strerror}")
        return
    for identifier in ids:
        faults += [f"{folder.name}/{lack}" for lack in channels.lacking(identifier)]
    for identifier in sorted(channels.files.keys() - ids.keys()):
        colours = ", ".join(colour for colour in COLOURS if colour in channels.files[identifier])
        shown = printable(identifier)
        faults.append(f"{folder.name}/{shown}_*.png ({colours}): {table} has no row for Id '{shown}'")
