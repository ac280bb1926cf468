"""`data.resize` as matrix products, exact to the last bit, for a graph that takes images of native size.

Pillow works in whole numbers below 2^53, so float64 holds each of its sums exactly.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PRECISION = 22
"""The binary places of Pillow's filter weights for images of eight bits (`PRECISION_BITS` of its Resample.c)."""


def resizing(native: int, px: int) -> nn.Module:
    """Return a module that resizes as `data.resize.resize` does.

    It brings images uint8 (b, c, native, native) to (b, c, px, px).
    """
    if native == px:
        return nn.Identity()
    return BlockMean(native // px) if native % px == 0 else Triangle(native, px)


class BlockMean(nn.Module):
    """The mean over blocks of ``factor`` x ``factor`` pixels, rounded as Pillow's `reduce` does (its Reduce.c)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor, self.area = factor, factor * factor
        # Pillow multiplies with the reciprocal instead of dividing: 24 binary places, cut off.
        self.reciprocal = (1 << 24) // self.area / (1 << 24)

    def forward(self, images: Tensor) -> Tensor:
        """Return the means, uint8."""
        blocks = images.unflatten(3, (-1, self.factor)).unflatten(2, (-1, self.factor))
        total = blocks.double().sum(dim=(3, 5))
        return ((total + self.area // 2) * self.reciprocal).floor().to(torch.uint8)


class Triangle(nn.Module):
    """Pillow's bilinear filter in two passes (its Resample.c).

    The first pass runs along the rows and rounds to eight bits. The second runs along the columns.
    """

    weights: Tensor

    def __init__(self, native: int, px: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(triangle_weights(native, px)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the filtered images, uint8."""
        along_rows = _rounded(images.double() @ self.weights.T)
        return _rounded(self.weights @ along_rows).to(torch.uint8)


def _rounded(sums: Tensor) -> Tensor:
    return ((sums + 2.0 ** (PRECISION - 1)) * 2.0**-PRECISION).floor().clamp(0, 255)


def triangle_weights(native: int, px: int) -> NDArray[np.float64]:
    """Return the weights (px, native) with which Pillow makes ``px`` pixels of ``native``.

    They are whole numbers in units of 2^-22. The triangle is as wide as the factor by which the image shrinks. It is at least
    a pixel wide.
    """
    scale = native / px
    width = max(scale, 1.0)
    centre = (np.arange(px)[:, None] + 0.5) * scale
    pixel = np.arange(native)[None, :]
    within = (pixel >= np.trunc(centre - width + 0.5)) & (pixel < np.trunc(centre + width + 0.5))
    weights = np.where(within, np.maximum(0.0, 1 - np.abs((pixel - centre + 0.5) / width)), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    whole: NDArray[np.float64] = np.floor(weights * (1 << PRECISION) + 0.5)
    return whole
