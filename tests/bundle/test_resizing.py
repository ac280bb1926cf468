import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.bundle.resizing import PRECISION, resizing, triangle_weights
from hpa_search.data.resize import resize


def both(images, px):
    return resizing(images.shape[-1], px)(torch.from_numpy(images)).numpy(), resize(images, px)


@pytest.mark.parametrize(("native", "px"), [(512, 384), (512, 224), (512, 256), (512, 512), (192, 64), (48, 80), (255, 17)])
def test_the_bytes_are_those_that_the_networks_were_trained_on(native, px):
    images = np.random.default_rng(px).integers(0, 256, (2, 4, native, native), dtype=np.uint8)
    images[0, 0], images[0, 1, : native // 2] = 255, 7
    found, expected = both(images, px)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60)
@given(px=st.integers(1, 70), native=st.integers(1, 70), seed=st.integers(0, 9), top=st.sampled_from([1, 2, 255]))
def test_they_are_so_at_every_size(px, native, seed, top):
    images = np.random.default_rng(seed).integers(0, top + 1, (1, 2, native, native), dtype=np.uint8)
    np.testing.assert_array_equal(*both(images, px))


def test_real_fields(real_fields):
    for px in (224, 256, 299, 384):
        np.testing.assert_array_equal(*both(real_fields[:2], px))


def test_the_weights_are_a_triangle_by_hand():
    np.testing.assert_array_equal(
        triangle_weights(4, 2) / (1 << PRECISION), np.round(np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7 * 2**22) / 2**22
    )
