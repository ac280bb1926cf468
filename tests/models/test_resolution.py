from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hpa_search.config import TrialConfig
from hpa_search.models.resolution import POOLING, covering_crops, further_blocks, like


def test_every_strategy_that_a_trial_may_name_is_here():
    assert tuple(POOLING) == get_args(TrialConfig.model_fields["resolution"].annotation)


@pytest.mark.parametrize("resolution", ["downsize", "gap", "crop"])
def test_only_extra_blocks_adds_anything(resolution):
    assert isinstance(further_blocks(resolution, 64), nn.Identity)


@pytest.mark.parametrize(("width", "size"), [(64, 16), (512, 7), (1024, 4), (54, 1)])
def test_two_blocks_quarter_each_side_and_keep_the_width(width, size):
    blocks = further_blocks("extra_blocks", width)
    result = blocks(torch.randn(2, width, size, size))
    side = (size + 3) // 4
    assert result.shape == (2, width, side, side)


def test_a_block_is_residual():
    """With the last scale of its branch at zero, only the shortcut is left: the block is then linear up to its ReLU."""
    block = further_blocks("extra_blocks", 8)[0].eval()
    nn.init.zeros_(block.bn2.weight)
    images = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(block(images), block.downsample(images).relu())


def test_a_wide_map_takes_the_cheaper_block():
    weights = sum(weight.numel() for weight in further_blocks("extra_blocks", 1024).parameters())
    assert weights < 2 * 2.2 * 1024**2


def test_strategies_that_ask_the_same_of_timm_are_alike():
    assert like("crop") == like("downsize") != like("gap") == like("extra_blocks")


def corners(length, size):
    """Return the top left corners, (row, column), of the crops of an image whose pixels say where they are."""
    places = torch.arange(length * length).view(1, 1, length, length)
    return [divmod(int(crop[0, 0, 0, 0]), length) for crop in covering_crops(places, size)]


def test_768_of_512_is_two_by_two():
    """As domain.md 2.1 has it of the competition's winner."""
    assert corners(768, 512) == [(0, 0), (0, 256), (256, 0), (256, 256)]
    assert corners(512, 512) == [(0, 0)]
    assert [row for row, column in corners(1000, 400) if column == 0] == [0, 300, 600]


@given(st.integers(1, 40), st.integers(1, 40))
def test_crops_cover_the_image_and_are_as_few_as_can_be(length, size):
    if size > length:
        with pytest.raises(ValueError, match="crops of"):
            corners(length, size)
        return
    seen = torch.zeros(1, 1, length, length)
    crops = list(covering_crops(seen, size))
    for crop in crops:
        assert crop.shape == (1, 1, size, size)
        crop += 1  # a crop is a view
    assert (seen > 0).all()
    assert len(crops) == (-(-length // size)) ** 2
