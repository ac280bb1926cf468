"""A submission: `Id,Predicted`, in the given order. A row is empty only where a bundle knows some labels alone."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from hpa_search.bundle.manifest import read_manifest
from hpa_search.bundle.predict import bundle_probabilities
from hpa_search.data.kaggle import image_ids, read_dataset, read_test_ids
from hpa_search.data.packed import pack
from hpa_search.data.progress import progress
from hpa_search.errors import UserError
from hpa_search.files import whole
from hpa_search.labels import to_target


def write_submission(path: Path, ids: Sequence[str], labels: np.ndarray) -> None:
    """Write ``labels``, bool (n, 28), for the images ``ids``; a row without one has an empty field."""
    with whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("Id", "Predicted"))
        writer.writerows((identifier, to_target(row)) for identifier, row in zip(ids, labels, strict=True))


def predict_folder(bundle: Path, images: Path, out: Path, cache: Path, *, console: Console) -> None:
    """Label a folder of images, or a dataset, with a bundle and write the submission to ``out``.

    Raises UserError for a damaged bundle, a damaged image, or a folder without images.
    """
    _check_place(out)
    manifest = read_manifest(bundle)
    folder, ids = _find_images(images)
    with progress(console, "Reading images") as tell:
        packed = pack(folder, ids, cache, tell)
    sizes = sorted({member.config.input_size for member in manifest.members})
    if sizes != [packed.size]:
        console.print(
            f"The images are {packed.size} px; the bundle's networks see {', '.join(map(str, sizes))} px: resized.",
            highlight=False,
        )
    with progress(console, "Predicting") as tell:
        probabilities = bundle_probabilities(bundle, manifest, packed, np.arange(len(ids)), tell)
    decision = manifest.decision_rule.decide(probabilities)
    write_submission(out, ids, decision.labels)
    empty = int((~decision.labels.any(axis=1)).sum())
    left = f" {empty} have none of the labels that the bundle was trained for." if empty else ""
    filled = f" {decision.filled} had no label above its threshold and got their likeliest." if decision.filled else ""
    console.print(f"{len(ids)} images labelled in {out}.{filled}{left}", highlight=False)


def _check_place(out: Path) -> None:
    """Refuse, before hours of predicting, a place that no file can be written to."""
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if out.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"{out}: no file can be written here; give --out the name of a CSV file in a folder of yours")


def _find_images(images: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of the images and their ids, in the order of sample_submission.csv where there is one."""
    if not images.is_dir():
        raise UserError(f"{images} is not a folder; give a folder of <Id>_<colour>.png or a dataset")
    if test_ids := read_test_ids(images):
        return images / "test", test_ids
    if (images / "train.csv").is_file():
        return images / "train", read_dataset(images).ids
    folder = images / "train" if (images / "train").is_dir() else images
    ids = image_ids(folder)
    if not ids:
        raise UserError(f"{folder}: no images here; their files are named <Id>_red.png, _green.png, _blue.png, _yellow.png")
    return folder, ids
