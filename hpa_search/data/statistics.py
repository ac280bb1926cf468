"""Mean and standard deviation of the training images, for each channel."""

import numpy as np
from numpy.typing import NDArray

from hpa_search.data.loader import Images
from hpa_search.stains import NUM_STAINS

MOST_ROWS = 2000
GRID = 128
"""Pixels used along each side of an image; more change nothing in the third digit."""

_CHUNK = 64


def channel_statistics(images: Images, rows: NDArray[np.int64], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean (4,) and std (4,) of the images at ``rows``, in 0..1 units.

    Uses at most 2,000 rows, drawn by ``seed``. Pass training rows only. Sums are of integers, hence exact: only the sample
    matters. Raises ValueError without rows.
    """
    if not len(rows):
        raise ValueError("no rows to compute the mean and the standard deviation of")
    sample = np.random.default_rng(seed).choice(rows, size=min(MOST_ROWS, len(rows)), replace=False)
    total, squares, count = np.zeros(NUM_STAINS), np.zeros(NUM_STAINS), 0
    for start in range(0, len(sample), _CHUNK):
        pixels = _grid(images.gather(np.sort(sample[start : start + _CHUNK])))
        total += pixels.sum(axis=(0, 2, 3), dtype=np.int64)
        squares += (pixels * pixels).sum(axis=(0, 2, 3), dtype=np.int64)
        count += pixels[:, 0].size
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    return mean / 255, np.sqrt(variance) / 255


def _grid(images: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return an even grid of the pixels of ``images`` (b, 4, s, s).

    Its type holds the pixels' squares.
    """
    step = max(1, images.shape[-1] // GRID)
    return images[:, :, ::step, ::step].astype(np.uint16)
