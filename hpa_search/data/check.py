"""Everything that can be said of a dataset before it is used: its faults, its size, its labels, a look at it."""

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
    """What a check found. Where ``faults`` is not empty, nothing else is known and no sheet is written.

    ``size`` and ``test_size`` are the height and width in pixels of the images of train/ and test/ (None where there
    are none), ``counts`` has a row for each class (see `label_counts`).
    """

    faults: tuple[str, ...]
    images: int = 0
    test_images: int = 0
    size: int | None = None
    test_size: int | None = None
    counts: pd.DataFrame | None = None
    sheet: Path | None = None


def load_dataset(root: Path, cache: Path, progress: Progress | None = None) -> tuple[Dataset, PackedImages, PackedImages | None]:
    """Read every table and decode every image of the dataset at ``root``; return it with its train/ and test/ images.

    Raises one DatasetFaults with every fault of tables and images; what is sound is left packed in ``cache`` all the
    same. Raises UserError where ``root`` is no folder or the cache cannot be written.
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
    """Check the dataset at ``root`` as `load_dataset` does, and write a contact sheet with an image of each class.

    Faults are returned, not raised; UserError is raised where ``root`` is no folder or something cannot be written.
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
    """Decode what images there are although the tables are at fault, so that one check lists everything."""
    faults: list[str] = []
    for folder in (root / "train", root / "test"):
        try:
            channels = find_channels(folder)
        except OSError:
            continue  # that a folder is missing is among the faults of the tables, if it is one
        told = {f"{folder.name}/{image_file(*channel)}: missing" for channel in channels.unfit}
        faults += [fault for fault in find_faults(folder, channels.images(), progress) if fault not in told]
    return tuple(faults)


def _write_examples(dataset: Dataset, images: PackedImages, path: Path) -> None:
    rows = examples(dataset.labels)
    write_sheet(images.gather(rows), [to_target(dataset.labels[row]) for row in rows], path)
