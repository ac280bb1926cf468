"""Resolution strategies: how a network designed for small images sees large ones.

Images always arrive at `TrialConfig.input_size`. The strategies differ in how the network treats them.

- `downsize`: images are small. The backbone works as published, with its own pooling.
- `gap`: images have their full size. Global average pooling before the classifier takes feature maps of any size.
- `extra_blocks`: images have their full size. Two more stride-2 residual blocks shrink the feature map to a sixteenth of its
  area. The usual head follows.
- `crop`: images have their full size. The backbone works as published, on crops (the winner's way). Training uses random
  crops; prediction uses crops that cover the image.
"""

from collections.abc import Iterator
from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

EXTRA_BLOCKS = 2
WIDEST_BASIC = 512
"""ResNets use basic blocks up to this width. Beyond it a bottleneck costs a ninth of the weights (He et al. 2016, table 1)."""

POOLING: dict[str, dict[str, Any]] = {
    "downsize": {},
    "gap": {"global_pool": "avg"},
    "extra_blocks": {"global_pool": "avg"},
    "crop": {},
}
"""The pooling arguments of `timm.create_model` for each strategy."""


def like(resolution: str) -> str:
    """Return the first strategy with the same arguments of timm, and so the same backbone, as ``resolution``."""
    return next(other for other in POOLING if POOLING[other] == POOLING[resolution])


def further_blocks(resolution: str, width: int) -> nn.Module:
    """Return the module between the feature map (b, width, h, w) and the head.

    It is the identity, or two residual blocks. The blocks keep ``width``, so any head fits. Each halves h and w.
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
    """Yield the fewest crops (b, c, size, size) that cover ``images`` (b, c, h, w).

    They are evenly spaced. Raises ValueError for images smaller than ``size``.
    """
    height, width = images.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"images of {height} x {width} pixels are too small for crops of {size}")
    for top in _offsets(height, size):
        for left in _offsets(width, size):
            yield images[..., top : top + size, left : left + size]


def _offsets(length: int, size: int) -> list[int]:
    """Return the starts of the fewest pieces of ``size`` that cover ``length``, evenly spaced."""
    steps = -(-length // size) - 1
    return [round(step * (length - size) / steps) for step in range(steps + 1)] if steps else [0]
