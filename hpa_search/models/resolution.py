"""The ways to give large images to a network that was designed for small ones.

In every one the images arrive at `TrialConfig.input_size`; what differs is what the network does with them.

- `downsize`: images are small; the backbone is used as published, with its own pooling.
- `gap`: images have their full size; global average pooling before the classifier takes any size of feature map.
- `extra_blocks`: images have their full size; two more stride-2 residual blocks bring the feature map down to a
  sixteenth of its area before the usual head.
- `crop`: images have their full size; the backbone is used as published, on crops of it (the winner's way). It is trained
  on random ones, and judges an image by the crops that cover it.
"""

from collections.abc import Iterator
from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

EXTRA_BLOCKS = 2
WIDEST_BASIC = 512
"""Up to this width ResNets use basic blocks; beyond it a bottleneck costs a ninth of the weights (He et al. 2016, table 1)."""

POOLING: dict[str, dict[str, Any]] = {
    "downsize": {},
    "gap": {"global_pool": "avg"},
    "extra_blocks": {"global_pool": "avg"},
    "crop": {},
}
"""What each strategy asks of `timm.create_model`."""


def like(resolution: str) -> str:
    """Return the first strategy that asks the same of timm as ``resolution`` does: their backbones are the same."""
    return next(other for other in POOLING if POOLING[other] == POOLING[resolution])


def further_blocks(resolution: str, width: int) -> nn.Module:
    """Return what stands between the feature map (b, width, h, w) and the head: nothing, or the two residual blocks.

    The blocks keep ``width``, so that any head fits; each halves h and w.
    """
    if resolution != "extra_blocks":
        return nn.Identity()
    return nn.Sequential(*(_stride_2_block(width) for _ in range(EXTRA_BLOCKS)))


def _stride_2_block(width: int) -> nn.Module:
    shortcut = downsample_conv(width, width, kernel_size=1, stride=2)
    if width <= WIDEST_BASIC or width % Bottleneck.expansion:
        return BasicBlock(width, width, stride=2, downsample=shortcut)
    return Bottleneck(width, width // Bottleneck.expansion, stride=2, downsample=shortcut)


def covering_crops(images: Tensor, size: int) -> Iterator[Tensor]:
    """Yield the fewest crops (b, c, size, size), evenly spaced, that cover ``images`` (b, c, h, w); images of that size as are.

    Raises ValueError for smaller images.
    """
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"crops of {size} pixels were wanted of images of {height} x {width}")
    for top in _offsets(height, size):
        for left in _offsets(width, size):
            yield images[..., top : top + size, left : left + size]


def _offsets(length: int, size: int) -> list[int]:
    """Return where the fewest pieces of ``size`` begin that cover ``length``; where an even space is no integer, rounded."""
    steps = -(-length // size) - 1
    return [round(step * (length - size) / steps) for step in range(steps + 1)] if steps else [0]
