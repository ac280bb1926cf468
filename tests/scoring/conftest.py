import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hpa_search.scoring.calibration import logit

SOUND = ("resnet34_256_rgb", "resnet34_256_rgby", "resnet34_224_rgb", "vgg16_224_rgb")


@dataclass(frozen=True)
class RealPredictions:
    """Held-out predictions of published models: logits (m, n, 28) and labels (n, 28)."""

    names: tuple[str, ...]
    logits: np.ndarray
    labels: np.ndarray

    @property
    def sound(self):
        """The places of the models that learnt something."""
        return [self.names.index(name) for name in SOUND]

    def split(self, fitted, seed):
        """Return the rows to choose on, and all others."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        return order[:fitted], order[fitted:]


@pytest.fixture(scope="session")
def real():
    data = os.environ.get("HPA_TEST_DATA")
    if not data:
        pytest.skip("real predictions: HPA_TEST_DATA is not set")
    with np.load(Path(data) / "predictions" / "heldout_probabilities.npz") as arrays:
        names = tuple(sorted(set(arrays.files) - {"ids", "labels"}))
        return RealPredictions(names, np.stack([logit(arrays[name]) for name in names]), arrays["labels"].astype(bool))
