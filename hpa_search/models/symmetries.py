"""Test-time augmentation: a network judges an image by its eight views under the symmetries of the square.

Cells have no orientation, so quarter turns and mirror images keep their labels. The views are the dihedral group of order 8
(Cohen and Welling 2016, "Group equivariant convolutional networks").
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

VIEWS = 8

LARGEST = math.log((1 - 1e-7) / 1e-7)
"""Log odds are clipped to +- this, the log odds of 1e-7, wherever probabilities are averaged."""

How = Literal["mean", "max"]


class Symmetric(nn.Module):
    """A network that judges each image by its eight views: images (b, 4, s, s) -> logits (b, 28), float32.

    A label's probability is the mean or the maximum over the views; see ``how``. The network sees one view at a time. So a
    batch takes no more memory than a plain batch.
    """

    def __init__(self, network: nn.Module, how: How) -> None:
        super().__init__()
        self.network = network
        self.how: How = how

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (b, 28) of ``images`` (b, 4, s, s). They are finite unless the network gives NaN."""
        return combined(torch.stack([self.network(view) for view in views(images)]), self.how)


def views(images: Tensor) -> Iterator[Tensor]:
    """Yield the eight views of ``images`` (..., s, s).

    The images and their three quarter turns come first, then the same for the mirror images.
    """
    for seen in (images, images.flip(-1)):
        for quarters in range(4):
            yield torch.rot90(seen, quarters, (-2, -1))


def combined(logits: Tensor, how: How) -> Tensor:
    """Return the log odds (b, k), float32, of the mean or maximum probability over views.

    ``logits`` are (v, b, k). The result is clipped to the log odds of 1e-7 and 1 - 1e-7. The means of p and 1 - p are computed
    apart, in logarithms. In float32 the difference 1 - p would have no digits left for p near 1.
    """
    z = logits.float()
    if how == "max":
        return z.amax(dim=0).clamp(-LARGEST, LARGEST)
    return (logsigmoid(z).logsumexp(dim=0) - logsigmoid(-z).logsumexp(dim=0)).clamp(-LARGEST, LARGEST)
