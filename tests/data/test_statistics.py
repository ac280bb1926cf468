import numpy as np
import pytest

from hpa_search.data.statistics import MOST_ROWS, channel_statistics


class ArrayImages:
    def __init__(self, array):
        self.array = array
        self.rows = []

    def gather(self, rows):
        self.rows.extend(rows.tolist())
        return self.array[rows]


def test_matches_numpy_on_all_rows():
    array = np.random.default_rng(0).integers(0, 256, (150, 4, 9, 9), dtype=np.uint8)
    rows = np.arange(20, 150)
    mean, std = channel_statistics(ArrayImages(array), rows)
    pixels = array[rows] / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-9)


def test_large_images_are_sampled_on_a_grid():
    array = np.random.default_rng(0).integers(0, 256, (4, 4, 512, 512), dtype=np.uint8)
    mean, std = channel_statistics(ArrayImages(array), np.arange(4))
    pixels = array / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=0.01)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=0.01)


def test_reads_given_rows_only_and_not_too_many():
    array = np.zeros((2 * MOST_ROWS, 4, 1, 1), dtype=np.uint8)
    images = ArrayImages(array)
    channel_statistics(images, np.arange(10, 2 * MOST_ROWS))
    assert len(images.rows) == len(set(images.rows)) == MOST_ROWS
    assert min(images.rows) >= 10


def test_sample_is_seeded():
    array = np.random.default_rng(0).integers(0, 256, (2 * MOST_ROWS, 4, 1, 1), dtype=np.uint8)
    rows = np.arange(len(array))
    first, same, other = (channel_statistics(ArrayImages(array), rows, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == same != other


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        channel_statistics(ArrayImages(np.zeros((1, 4, 2, 2), np.uint8)), np.arange(0))
