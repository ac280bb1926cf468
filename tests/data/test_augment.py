from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.data.augment import augment, transform

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


def test_the_generator_alone_decides():
    images = torch.randint(0, 256, (16, 4, 6, 6), dtype=torch.uint8)
    first = augment(images, "dihedral", torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    assert torch.equal(first, augment(images, "dihedral", torch.Generator().manual_seed(3)))
    assert not torch.equal(first, augment(images, "dihedral", torch.Generator().manual_seed(4)))
