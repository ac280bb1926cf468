from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from hpa_search.data.augment import (
    AUGMENTATIONS,
    GAIN,
    GAMMA,
    SCALE,
    SHIFT,
    TURN,
    Share,
    _crops_at_once,
    _crops_one_by_one,
    _turned_at_once,
    _turned_one_by_one,
    augment,
    random_crops,
    transform,
    warp,
)

SYMMETRIES = {"none": 1, "flips": 4, "dihedral": 8}


def batch(number: int, size: int = 4) -> torch.Tensor:
    """Copies of one image without any symmetry of its own."""
    image = torch.arange(4 * size * size, dtype=torch.uint8).view(1, 4, size, size)
    return image.expand(number, -1, -1, -1).contiguous()


@pytest.mark.parametrize(("name", "number"), SYMMETRIES.items())
def test_each_symmetry_is_about_equally_frequent(name, number):
    images = batch(800)
    seen = Counter(bytes(image.numpy().tobytes()) for image in augment(images, name, torch.Generator().manual_seed(1)))
    assert len(seen) == number
    assert min(seen.values()) > 0.6 * 800 / number


def test_the_eight_symmetries_are_those_of_the_square():
    image = batch(1)[0]
    quarter_turns = [image.rot90(turns, (-2, -1)) for turns in range(4)]
    expected = {bytes(turned.numpy().tobytes()) for turned in quarter_turns + [turned.flip(-1) for turned in quarter_turns]}
    assert {bytes(transform(image, symmetry).contiguous().numpy().tobytes()) for symmetry in range(8)} == expected


@given(st.integers(1, 20), st.sampled_from(sorted(SYMMETRIES)), st.integers(0, 99))
def test_pixels_stay_in_their_image_and_channel(number, name, seed):
    images = torch.randint(0, 256, (number, 4, 6, 6), dtype=torch.uint8)
    before = images.clone()
    result = augment(images, name, torch.Generator().manual_seed(seed))
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(result.flatten(2).sort().values, images.flatten(2).sort().values)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_type_and_input_stay(name):
    images = torch.randint(0, 256, (5, 4, 9, 9), dtype=torch.uint8)
    before = images.clone()
    result = augment(images, name, torch.Generator().manual_seed(0))
    assert (result.dtype, result.shape) == (torch.uint8, images.shape)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"none"}))
def test_the_generator_alone_decides(name):
    images = torch.randint(0, 256, (16, 4, 6, 6), dtype=torch.uint8)
    first = augment(images, name, torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    assert torch.equal(first, augment(images, name, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, augment(images, name, torch.Generator().manual_seed(4)))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="augment: expected one of"):
        augment(batch(1), "mixup", torch.Generator())


@pytest.mark.parametrize("channel", range(4))
def test_strong_leaves_each_stain_in_its_channel(channel):
    images = torch.zeros(8, 4, 16, 16, dtype=torch.uint8)
    images[:, channel] = torch.randint(50, 256, (8, 16, 16), dtype=torch.uint8)
    result = augment(images, "strong", torch.Generator().manual_seed(0))
    assert (result[:, [other for other in range(4) if other != channel]] == 0).all()
    assert (result[:, channel] > 0).all()  # no black corners


def test_strong_changes_brightness_within_its_bounds_for_each_channel_alone():
    result = augment(torch.full((300, 4, 6, 6), 100, dtype=torch.uint8), "strong", torch.Generator().manual_seed(0))
    values = result.flatten(2).float()
    assert torch.equal(values.amin(2), values.amax(2))
    levels = values[:, :, 0] / 255
    darkest, brightest = (100 / 255) ** GAMMA / GAIN, (100 / 255) ** (1 / GAMMA) * GAIN
    assert darkest - 0.002 <= levels.min() < darkest + 0.03
    assert brightest - 0.03 < levels.max() <= brightest + 0.002
    assert torch.corrcoef(levels.T).fill_diagonal_(0).abs().max() < 0.2


def test_strong_moves_all_channels_together_within_its_bounds():
    """A dot 25 pixels off the centre goes to any side, as far as scale and shift allow, and turns into each corner."""
    size, dot = 101, 25
    images = torch.zeros(400, 4, size, size, dtype=torch.uint8)
    images[:, :, 49:52, 49 + dot : 52 + dot] = 200
    result = augment(images, "strong", torch.Generator().manual_seed(0)).float()
    along = torch.arange(size) - 50.0
    mass = result.sum((2, 3))
    x, y = (result.sum(2) * along).sum(2) / mass, (result.sum(3) * along).sum(2) / mass
    assert (x - x[:, :1]).abs().max() < 0.2
    assert (y - y[:, :1]).abs().max() < 0.2
    far, shift = torch.hypot(x[:, 0], y[:, 0]), SHIFT * size
    assert (dot - shift) / SCALE - 0.5 <= far.min() < (dot - shift) / SCALE + 3
    assert SCALE * (dot + shift) - 4 < far.max() <= SCALE * np.hypot(dot + shift, shift) + 0.5
    angle = torch.rad2deg(torch.atan2(y[:, 0], x[:, 0])).numpy()
    aside = (angle + 45) % 90 - 45
    most = TURN + np.degrees(np.arcsin(shift * 2**0.5 / dot))
    assert TURN < np.abs(aside).max() <= most
    assert {(round(a / 90) % 4, b > 0) for a, b in zip(angle, aside, strict=True)} == {
        (q, s) for q in range(4) for s in (True, False)
    }


def test_warp_is_scipy_s_linear_interpolation_with_mirrored_edges():
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.rand(3, 2, 11, 11, generator=generator), torch.randn(3, 2, 3, generator=generator)
    found = warp(images, maps)
    places = (np.arange(11) + 0.5) / 11 * 2 - 1
    y, x = np.meshgrid(places, places, indexing="ij")
    for image, matrix, result in zip(images, maps.double().numpy(), found, strict=True):
        to_x, to_y = (row[0] * x + row[1] * y + row[2] for row in matrix)
        pixels = [(to + 1) / 2 * 11 - 0.5 for to in (to_y, to_x)]
        expected = [map_coordinates(plane.double().numpy(), pixels, order=1, mode="reflect") for plane in image]
        np.testing.assert_allclose(result.numpy(), np.stack(expected), atol=1e-5)


def test_crops_are_pieces_of_their_images_from_everywhere():
    size, crop = 6, 4
    images = batch(500, size)
    images[:, 1:] = images[:, :1]
    crops = random_crops(images, crop, torch.Generator().manual_seed(0))
    corners = Counter(divmod(int(corner), size) for corner in crops[:, 0, 0, 0])
    assert set(corners) == {(top, left) for top in range(3) for left in range(3)}
    assert min(corners.values()) > 30
    for piece in crops:
        top, left = divmod(int(piece[0, 0, 0]), size)
        assert torch.equal(piece, images[0, :, top : top + crop, left : left + crop])


def test_a_crop_of_the_whole_is_the_image_and_a_larger_one_an_error():
    images = batch(3)
    assert torch.equal(random_crops(images, 4, torch.Generator()), images)
    with pytest.raises(ValueError, match="a crop of 5 pixels does not fit into images of 4"):
        random_crops(images, 5, torch.Generator())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_share_of_a_batch_is_changed_as_in_the_batch(name):
    images, whole = batch(5), torch.Generator().manual_seed(1)
    expected = augment(images, name, whole), random_crops(images, 3, whole)
    for rows in (slice(0, 3), slice(3, 5)):
        generator = torch.Generator().manual_seed(1)
        found = augment(images[rows], name, generator, Share(rows, 5)), random_crops(images[rows], 3, generator, Share(rows, 5))
        assert all(torch.equal(part, all_[rows]) for part, all_ in zip(found, expected, strict=True))
        assert torch.equal(generator.get_state(), whole.get_state())


def test_a_gpus_way_for_all_images_at_once_gives_the_same_as_one_by_one():
    images = torch.randint(0, 256, (8, 4, 7, 7), dtype=torch.uint8)
    symmetries, corners = torch.arange(8), torch.randint(0, 4, (8, 2))
    assert torch.equal(_turned_at_once(images, symmetries), _turned_one_by_one(images, symmetries))
    assert torch.equal(_crops_at_once(images, corners, 4), _crops_one_by_one(images, corners, 4))
