"""A plain convolutional network for small images of four stains, trained from scratch (system S1-1).

The report has images of 128 x 128 pixels. Its network has 4 convolutions with 3x3 kernels, and 3 linear layers. It uses batch
norm, ReLU and dropout. Between convolutions and linear layers there are 64 x 6 x 6 numbers.

The report contradicts itself on the widths. Its text says 16, 32, 64, 128; its table ends with 64. Here they are 16, 32, 64,
64, which agree with 64 x 6 x 6. Four unpadded 3x3 convolutions, each with 2x2 max pooling, turn 128 x 128 into 6 x 6.

Filled in are the widths 512 and 256 of the linear layers, and torch's dropout of 0.5 between them. The third linear layer,
with the dropout before it, is the head.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from hpa_search.models.backbones import base
from hpa_search.stains import NUM_STAINS

WIDTHS = (16, 32, 64, 64)
GRID = 6
HIDDEN = (512, 256)
SMALLEST = 46
"""The least size in pixels: a smaller image vanishes in the fourth block."""

default_cfgs = base.default_cfgs("plain_cnn", (NUM_STAINS, 128, 128), "blocks.0.conv")


class PlainCNN(base.Classifier):
    """Images (b, in_chans, s, s) -> map (b, 64, h, w), 6 x 6 at 128 pixels -> (b, 256).

    With ``global_pool`` "" the map is resized to 6 x 6 by adaptive average pooling, and flattened. At 128 pixels it has this
    size already. With "avg" the map is averaged. Raises ValueError for other poolings, and for images below 46 pixels.
    """

    def __init__(self, in_chans: int = NUM_STAINS, num_classes: int = 0, global_pool: str = "", drop_rate: float = 0.5) -> None:
        base.check_pooling("plain_cnn", global_pool, ("", "avg"))
        super().__init__(WIDTHS[-1], HIDDEN[-1], num_classes)
        self.grid = 1 if global_pool else GRID
        self.blocks = nn.Sequential(*(_convolution(*widths) for widths in pairwise((in_chans, *WIDTHS))))
        first, second = HIDDEN
        self.hidden = nn.Sequential(*_linear(WIDTHS[-1] * self.grid**2, first), nn.Dropout(drop_rate), *_linear(first, second))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the map (b, 64, h, w) of ``images`` (b, in_chans, s, s)."""
        base.check_size("plain_cnn", images, SMALLEST)
        features: Tensor = self.blocks(images)
        return features

    def pool(self, features: Tensor) -> Tensor:
        """Return the output (b, 256) of the two hidden layers for the map (b, 64, h, w)."""
        # Use the mean where both would do: on a GPU the gradient of adaptive pooling is not deterministic.
        if self.grid == 1:
            features = features.mean((2, 3))
        elif features.shape[-2:] != (GRID, GRID):
            features = adaptive_avg_pool2d(features, GRID)
        pooled: Tensor = self.hidden(features.flatten(1))
        return pooled

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the stem (first block) and the blocks: the other three blocks, then the hidden layers."""
        return {"stem": r"^blocks\.0\.", "blocks": [(r"^blocks\.(\d+)\.", None), (r"^hidden\.", (len(WIDTHS),))]}


def _convolution(entering: int, leaving: int) -> nn.Module:
    """Return a block. Its convolution has no bias, because the batch norm would remove it."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(entering, leaving, kernel_size=3, bias=False),
            norm=nn.BatchNorm2d(leaving),
            act=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
        )
    )


def _linear(entering: int, leaving: int) -> tuple[nn.Module, ...]:
    return nn.Linear(entering, leaving, bias=False), nn.BatchNorm1d(leaving), nn.ReLU(inplace=True)


@register_model
def plain_cnn(pretrained: bool = False, **settings: Any) -> nn.Module:
    """Return a new `PlainCNN`; called by `timm.create_model`."""
    return base.build(PlainCNN, "plain_cnn", pretrained, **settings)
