"""Check a dataset before it is used: its faults, sizes and labels, and a contact sheet."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.naming import find_channels, image_file
from hpa_search.data.packed import PackedImages, Progress, find_faults, pack
from hpa_search.data.sheet import examples, label_counts, write_sheet
from hpa_search.labels import to_target


@dataclass(frozen=True, eq=False)
class Report:
    """The result of a check.

    With ``faults``, all other fields are empty and no sheet is written. ``size`` and ``test_size`` are the side in pixels of
    the images in train/ and test/. They are None without images. ``counts`` has a row for each class (see `label_counts`).
    """

    faults: tuple[str, ...]
    images: int = 0
    test_images: int = 0
    size: int | None = None
    test_size: int | None = None
    counts: pd.DataFrame | None = None
    sheet: Path | None = None


def load_dataset(root: Path, cache: Path, progress: Progress | None = None) -> tuple[Dataset, PackedImages, PackedImages | None]:
    """Read every table and decode every image of the dataset at ``root``.

    Returns the dataset, its train/ images and its test/ images. The test/ images are None if there are none. Raises one
    DatasetFaults that lists every fault of tables and images. A folder without faults stays packed in ``cache`` all the same.
    Raises UserError where ``root`` is not a folder or the cache cannot be written.
    """
    try:
        dataset = read_dataset(root)
    except DatasetFaults as error:
        raise DatasetFaults(root, tuple(dict.fromkeys(error.faults + _image_faults(root, progress)))) from None
    faults: list[str] = []
    train = _try_pack(dataset.train_folder, dataset.ids, cache, progress, faults)
    test = _try_pack(dataset.test_folder, dataset.test_ids, cache, progress, faults) if dataset.test_ids else None
    if train is None or faults:
        raise DatasetFaults(root, faults)
    return dataset, train, test


def check_dataset(root: Path, sheet_path: Path, cache: Path, progress: Progress | None = None) -> Report:
    """Check a dataset as `load_dataset` does, and write its contact sheet.

    The sheet shows an image of each class. Faults are returned, not raised. Raises UserError where ``root`` is not a folder
    or something cannot be written.
    """
    try:
        dataset, train, test = load_dataset(root, cache, progress)
    except DatasetFaults as error:
        return Report(error.faults)
    _write_examples(dataset, train, sheet_path)
    return Report(
        faults=(),
        images=len(dataset.ids),
        test_images=len(dataset.test_ids),
        size=train.size,
        test_size=test.size if test else None,
        counts=label_counts(dataset.labels),
        sheet=sheet_path,
    )


def _try_pack(
    folder: Path, ids: tuple[str, ...], cache: Path, progress: Progress | None, faults: list[str]
) -> PackedImages | None:
    try:
        return pack(folder, ids, cache, progress)
    except DatasetFaults as error:
        faults += error.faults
        return None


def _image_faults(root: Path, progress: Progress | None) -> tuple[str, ...]:
    """Decode the images although tables are at fault: one check lists everything."""
    faults: list[str] = []
    for folder in (root / "train", root / "test"):
        try:
            channels = find_channels(folder)
        except OSError:
            continue  # if the folder is needed, the faults of the tables name it
        known = {f"{folder.name}/{image_file(*channel)}: missing" for channel in channels.unfit}
        faults += [fault for fault in find_faults(folder, channels.images(), progress) if fault not in known]
    return tuple(faults)


def _write_examples(dataset: Dataset, images: PackedImages, path: Path) -> None:
    rows = examples(dataset.labels)
    write_sheet(images.gather(rows), [to_target(dataset.labels[row]) for row in rows], path)
