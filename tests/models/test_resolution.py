import pytest
import torch
from torch import nn

from hpa_search.models.resolution import further_blocks


@pytest.mark.parametrize("resolution", ["downsize", "gap"])
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
