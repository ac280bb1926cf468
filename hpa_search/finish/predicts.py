"""Who computes the logits of finished networks for the final stage: this process, or a cluster's slots (`engine.labelling`)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.predict import NetworkFile, network_logits
from hpa_search.config import TestTime
from hpa_search.data.kaggle import Dataset, Folder
from hpa_search.data.packed import PackedImages, pack


class Predicts(Protocol):
    """Computes logits of networks."""

    def logits(
        self, networks: Sequence[NetworkFile], folder: Folder, rows: NDArray[np.int64], tta: TestTime
    ) -> NDArray[np.float32]:
        """Return the logits (m, n, 28) of m networks for the images at ``rows`` (n,) of ``folder``."""


class Here:
    """Computes them in this process, one network after another. ``images`` are those with labels."""

    def __init__(self, dataset: Dataset, images: PackedImages, cache: Path) -> None:
        self._dataset, self._images, self._cache = dataset, images, cache

    def logits(
        self, networks: Sequence[NetworkFile], folder: Folder, rows: NDArray[np.int64], tta: TestTime
    ) -> NDArray[np.float32]:
        """Return the logits (m, n, 28)."""
        images = self._images if folder == "train" else self._test_images
        return np.stack([network_logits(network, images, rows, tta) for network in networks])

    @cached_property
    def _test_images(self) -> PackedImages:
        return pack(*self._dataset.files_of("test"), self._cache)
