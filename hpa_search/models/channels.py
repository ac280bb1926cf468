"""What the network sees of an image: which of the four stains, and in which units."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STAINS: tuple[str, ...] = ("red", "green", "blue", "yellow")
"""The order of the channels in every image array: microtubules, protein of interest, nucleus, endoplasmic reticulum."""

SELECTIONS: dict[str, tuple[int, ...]] = {"rgby": (0, 1, 2, 3), "rgb": (0, 1, 2), "green": (1,)}
"""The channels that each setting of ``channels`` keeps."""

SMALLEST_STD = 1e-3
"""A channel that hardly varies (an empty stain) is not blown up by more than this allows; in 0..1 units."""


class InputStage(nn.Module):
    """Selects channels and normalises them: (x - mean) / std of the training rows, channel by channel.

    It takes images of shape (b, 4, h, w), either uint8 (0..255) or float (0..1), and returns float32 of shape
    (b, c, h, w) with the c channels of ``channels``. ``mean`` and ``std`` have 4 entries in 0..1 units; they travel
    with the weights as buffers. Raises ValueError for another number of entries or a negative std.
    """

    mean: Tensor
    std: Tensor
    index: Tensor

    def __init__(self, channels: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(STAINS) or len(std) != len(STAINS):
            raise ValueError(f"mean and std need {len(STAINS)} entries ({', '.join(STAINS)}), got {len(mean)} and {len(std)}")
        if min(std) < 0:
            raise ValueError(f"std has a negative entry: {list(std)}")
        kept = SELECTIONS[channels]
        self.register_buffer("index", torch.tensor(kept), persistent=False)
        self.register_buffer("mean", _per_channel([float(mean[i]) for i in kept]))
        self.register_buffer("std", _per_channel([max(float(std[i]), SMALLEST_STD) for i in kept]))

    @property
    def channels(self) -> int:
        """The number of channels that the network sees."""
        return self.index.numel()

    def forward(self, images: Tensor) -> Tensor:
        """Return the selected channels of ``images``, normalised; see the class for shapes and units."""
        if self.channels < images.shape[1]:
            images = images.index_select(1, self.index)
        unit = 1 / 255 if images.dtype == torch.uint8 else 1.0
        return images.float() * (unit / self.std) - self.mean / self.std


def _per_channel(values: list[float]) -> Tensor:
    """Return ``values`` as float32 of shape (1, c, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
