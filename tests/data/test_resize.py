import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.data.resize import resize


def noise(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, height, width), dtype=np.uint8)


def test_the_same_size_is_the_same_array():
    images = noise(2, 16, 16)
    assert resize(images, 16) is images


def test_a_whole_factor_is_the_mean_of_each_block():
    images = noise(3, 24, 24)
    mean = images.reshape(3, 4, 8, 3, 8, 3).mean(axis=(3, 5))
    assert np.abs(resize(images, 8) - mean).max() <= 0.6


@pytest.mark.parametrize("px", [20, 27, 33, 48, 80])
def test_any_other_size_is_the_antialiased_bilinear_filter_of_torch(px):
    images = noise(2, 48, 48)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images).double(), size=(px, px), mode="bilinear", antialias=True, align_corners=False
    )
    if px == 48:
        assert np.array_equal(resize(images, px), images)
    assert np.abs(resize(images, px) - expected.numpy()).max() <= 1.01


def test_fine_stripes_do_not_alias():
    stripes = np.zeros((1, 4, 64, 64), dtype=np.uint8)
    stripes[..., ::2] = 200
    for px in (32, 28, 24):
        middle = resize(stripes, px)[..., 2:-2]
        assert middle.min() >= 85 and middle.max() <= 115


@given(px=st.integers(1, 40), value=st.integers(0, 255), side=st.integers(1, 40))
def test_a_flat_image_stays_flat(px, value, side):
    resized = resize(np.full((1, 4, side, side), value, dtype=np.uint8), px)
    assert resized.shape == (1, 4, px, px) and resized.dtype == np.uint8 and (resized == value).all()


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    images = noise(5, 30, 30)
    assert np.array_equal(resize(images, 13)[2:3], resize(images[2:3].copy(), 13))


@pytest.mark.parametrize("images", [np.zeros((1, 4, 8, 8)), np.zeros((4, 8, 8), dtype=np.uint8)])
def test_other_arrays_are_refused(images):
    with pytest.raises(ValueError, match="expected uint8"):
        resize(images, 4)


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        resize(noise(1, 4, 4), 0)
