"""Small datasets in the Kaggle layout, written with Pillow and not with the code under test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow")


def _write_images(folder: Path, ids, size: int, seed: int = 0) -> np.ndarray:
    """Write the four channels of each image and return their pixels, uint8 (n, 4, size, size)."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(ids), 4, size, size), dtype=np.uint8)
    for identifier, image in zip(ids, pixels, strict=True):
        for colour, plane in zip(COLOURS, image, strict=True):
            Image.fromarray(plane).save(folder / f"{identifier}_{colour}.png")
    return pixels


@pytest.fixture
def write_images() -> Callable[..., np.ndarray]:
    """``write_images(folder, ids, size, seed=0)`` writes the four channels of each image and returns the pixels."""
    return _write_images


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset of train and test images under ``tmp_path`` and return its folder."""

    def make(targets=("0", "16 0", "25", "7 1 2 0"), tests: int = 2, size: int = 8, name: str = "dataset") -> Path:
        root = tmp_path / name
        ids = [f"id{index}" for index in range(len(targets))]
        _write_images(root / "train", ids, size)
        rows = "".join(f"{identifier},{target}\n" for identifier, target in zip(ids, targets, strict=True))
        (root / "train.csv").write_text("Id,Target\n" + rows)
        if tests:
            # Not in sorted order, so that a reader that sorts is told from one that keeps the order of the file.
            test_ids = [f"t{index}" for index in reversed(range(tests))]
            _write_images(root / "test", test_ids, size, seed=1)
            (root / "sample_submission.csv").write_text("Id,Predicted\n" + "".join(f"{i},0\n" for i in test_ids))
        return root

    return make
