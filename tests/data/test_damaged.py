"""Datasets with bytes changed or files cut at seeded places: refused by name, or read as their bytes say."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS
from hpa_search.stains import COLOURS

DAMAGED = 50


def damage(data: bytes, random: np.random.Generator) -> bytes:
    """Cut the file, or change one to three of its bytes: a bit of them or the whole byte."""
    if random.random() < 0.3:
        return data[: random.integers(0, len(data))]
    changed = bytearray(data)
    for place in random.integers(0, len(data), random.integers(1, 4)):
        changed[place] = changed[place] ^ (1 << random.integers(0, 8)) if random.random() < 0.5 else random.integers(0, 256)
    return bytes(changed)


def columns(path: Path, first: str, second: str) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {row[first]: row[second] for row in csv.DictReader(file)}


def pixels(folder: Path, identifier: str) -> np.ndarray:
    planes = []
    for colour in COLOURS:
        with Image.open(folder / f"{identifier}_{colour}.png") as image:
            planes.append(np.asarray(image))
    return np.stack(planes)


def outcome(root: Path, cache: Path, damaged: Path) -> str:
    """Read and pack the dataset; returns "refused" or "read" and fails if the error or the content is not right."""
    try:
        dataset = read_dataset(root)
        packs = [
            pack(dataset.train_folder, dataset.ids, cache, workers=1),
            pack(dataset.test_folder, dataset.test_ids, cache, workers=1),
        ]
    except UserError as error:
        assert damaged.name in str(error)
        return "refused"
    targets = columns(root / "train.csv", "Id", "Target")
    assert list(dataset.ids) == list(targets)
    for row, target in zip(dataset.labels, targets.values(), strict=True):
        assert np.flatnonzero(row).tolist() == sorted({int(word) for word in target.split()}) and row.shape == (NUM_LABELS,)
    groups = columns(root / "groups.csv", "Id", "Group")
    assert dataset.groups is not None
    mine, theirs = dataset.groups, [groups.get(identifier, f"alone {identifier}") for identifier in dataset.ids]
    assert len(set(zip(mine, theirs, strict=True))) == len(set(mine)) == len(set(theirs)), "the same images are together"
    assert list(dataset.test_ids) == list(columns(root / "sample_submission.csv", "Id", "Predicted"))
    for packed, folder in zip(packs, (dataset.train_folder, dataset.test_folder), strict=True):
        assert np.array_equal(packed.pixels, [pixels(folder, identifier) for identifier in packed.ids])
    return "read"


@pytest.mark.timeout(120)
def test_damaged_datasets_are_refused_by_name_or_read_as_their_bytes_say(make_dataset, tmp_path):
    root = make_dataset()
    (root / "groups.csv").write_text("Id,Group\nid0,plate one\nid2,plate one\nid1,plate two\n")
    tables = sorted(root.glob("*.csv"))
    images = sorted(root.glob("*/*.png"))
    assert outcome(root, tmp_path / "cache", root) == "read"
    outcomes: dict[str, list[str]] = {".csv": [], ".png": []}
    for seed in range(DAMAGED):
        random = np.random.default_rng(seed)
        path = (tables, images)[seed % 2][random.integers(0, len((tables, images)[seed % 2]))]
        whole = path.read_bytes()
        path.write_bytes(damage(whole, random))
        outcomes[path.suffix].append(outcome(root, tmp_path / "cache", path))
        path.write_bytes(whole)
    assert outcomes[".png"].count("refused") >= 20
    assert {"refused", "read"} == set(outcomes[".csv"]), "the damage reaches both what can be seen and what cannot"
