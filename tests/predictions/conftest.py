"""Predictions of made-up models, as files, and the real ones where they are."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from hpa_search.labels import to_target

CLASSES = 28


@pytest.fixture(scope="session")
def drawn():
    """A function that draws ids, labels (n, 28) and the probabilities of three models: a good one, a fair one, and noise."""

    def draw(rows=150, seed=0):
        rng = np.random.default_rng(seed)
        labels = rng.random((rows, CLASSES)) < np.linspace(0.3, 0.03, CLASSES)
        labels[np.arange(rows), rng.integers(0, CLASSES, rows)] = True
        probabilities = {
            name: expit(clear * (2.0 * labels - 1) - 1 + noise * rng.normal(size=labels.shape)).astype(np.float32)
            for name, clear, noise in (("good", 2, 1.2), ("fair", 2, 2.0), ("noise", 0, 1.0))
        }
        return {"ids": np.array([f"id{row:04}" for row in range(rows)]), "labels": labels.astype(np.uint8), **probabilities}

    return draw


@pytest.fixture
def npz(tmp_path, drawn):
    """A function that writes drawn predictions, some arrays replaced, or left out where None, and returns the file."""

    def write(name="predictions.npz", rows=150, seed=0, **replaced):
        arrays = {**drawn(rows, seed), **replaced}
        path = tmp_path / name
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return path

    return write


def write_sheet(path: Path, arrays) -> Path:
    """Write ``arrays``, as those of an .npz file, as CSV."""
    models = [name for name in arrays if name not in ("ids", "labels", "groups")]
    head = ["Id", *(["Target"] if "labels" in arrays else []), *(["Group"] if "groups" in arrays else [])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*head, *(f"{name}_{c}" for name in models for c in range(CLASSES))])
        for row, identifier in enumerate(arrays["ids"]):
            start = [identifier]
            start += [to_target(arrays["labels"][row])] if "labels" in arrays else []
            start += [arrays["groups"][row]] if "groups" in arrays else []
            writer.writerow([*start, *(repr(float(value)) for name in models for value in arrays[name][row])])
    return path


@pytest.fixture
def sheet(tmp_path, drawn):
    """A function that writes drawn predictions as CSV, as the fixture npz does."""

    def write(name="predictions.csv", rows=150, seed=0, **replaced):
        arrays = {**drawn(rows, seed), **replaced}
        return write_sheet(tmp_path / name, {key: value for key, value in arrays.items() if value is not None})

    return write


@pytest.fixture(scope="session")
def real():
    """The arrays of the real predictions."""
    folder = os.environ.get("HPA_TEST_DATA")
    if not folder:
        pytest.skip("HPA_TEST_DATA is not set: no real predictions here")
    with np.load(Path(folder) / "predictions" / "heldout_probabilities.npz") as file:
        return {name: file[name] for name in file.files}
