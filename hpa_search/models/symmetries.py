"""Test-time augmentation: an image is judged by its eight views under the symmetries of the square.

Cells lie in the plate any way round, so that the quarter turns of an image and of its mirror image have the same labels
(the dihedral group of order 8, Cohen and Welling 2016, "Group equivariant convolutional networks").
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

VIEWS = 8

LARGEST = math.log((1 - 1e-7) / 1e-7)
"""Log odds are clipped to this either way: those of a probability of 1e-7, as everywhere where probabilities are averaged."""

How = Literal["mean", "max"]


class Symmetric(nn.Module):
    """A network judging images by their eight views: images (b, 4, s, s) as ``network`` takes them -> logits (b, 28), float32.

    ``how`` says whether the probability of a label is the mean of those of the views, or their maximum. The views are
    looked at one after another, so that a batch takes no more memory than without.
    """

    def __init__(self, network: nn.Module, how: How) -> None:
        super().__init__()
        self.network = network
        self.how: How = how

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (b, 28) of ``images`` (b, 4, s, s), finite unless the network's are no numbers."""
        return combined(torch.stack([self.network(view) for view in views(images)]), self.how)


def views(images: Tensor) -> Iterator[Tensor]:
    """Yield ``images`` (..., s, s) in their eight views: themselves first, their three quarter turns, then those mirrored."""
    for seen in (images, images.flip(-1)):
        for quarters in range(4):
            yield torch.rot90(seen, quarters, (-2, -1))


def combined(logits: Tensor, how: How) -> Tensor:
    """Return the log odds (b, k), float32, of the mean or maximum over views of the probabilities of ``logits`` (v, b, k).

    They are clipped to those of 1e-7 and of one minus that. A mean is taken of p and of 1 - p apart, each in logarithms:
    in float32 one minus a p near 1 would have no digits left.
    """
    z = logits.float()
    if how == "max":
        return z.amax(dim=0).clamp(-LARGEST, LARGEST)
    return (logsigmoid(z).logsumexp(dim=0) - logsigmoid(-z).logsumexp(dim=0)).clamp(-LARGEST, LARGEST)
