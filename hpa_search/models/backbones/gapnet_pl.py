"""GapNet-PL: features from three depths, each averaged over the image, side by side (systems S2-B0 and S2-B1).

The idea and the widths are those of Rumetshofer et al. 2019 (Human-level protein localization with convolutional neural
networks, ICLR). Blocks have 32, 64 and 128 channels. Two layers of 256 follow their 224 averages.

This is S2's variant, from its published notebook in Keras. It has 597,388 weights at four channels, which a test confirms.
It differs from the paper in four points.

- The first convolution has stride 1 instead of 2.
- The second block has three convolutions instead of four.
- ReLU and batch norm replace SELU.
- A batch norm precedes the first block.

S2 adds a dropout of 0.25 after every block and after the first hidden layer. Keras's own settings are kept. Weights are Glorot
uniform, and biases zero. Batch norms have an epsilon of 0.001, and keep 99 % of their running averages a step. S2's last
dropout (0.1) and layer are left to the head: `head: plain` with `dropout: 0.1`. Nothing is filled in.
"""

from collections.abc import Iterator
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from hpa_search.models.backbones import base
from hpa_search.stains import NUM_STAINS

WIDTHS = (32, 64, 128)
HIDDEN = 256
SMALLEST = 76
"""The least size in pixels: a smaller image vanishes in the last convolution."""

default_cfgs = base.default_cfgs("gapnet_pl", (NUM_STAINS, 512, 512), "blocks.0.0")


class GapNetPL(base.Classifier):
    """Images (b, in_chans, s, s) -> normalised averages of three depths (b, 224) -> (b, 256).

    Its features are a vector and not a map, so no blocks can be appended. Raises ValueError for a ``global_pool`` other than
    "avg", and for images below 76 pixels.
    """

    def __init__(
        self, in_chans: int = NUM_STAINS, num_classes: int = 0, global_pool: str = "avg", drop_rate: float = 0.25
    ) -> None:
        base.check_pooling("gapnet_pl", global_pool, ("avg",))
        super().__init__(sum(WIDTHS), HIDDEN, num_classes)
        first, second, third = WIDTHS
        pool, drop = nn.MaxPool2d(2), nn.Dropout(drop_rate)
        self.input_norm = _norm_2d(in_chans)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(*_convolution(in_chans, first), _norm_2d(first), pool, drop),
                nn.Sequential(*_convolutions(first, second, stride=2), _norm_2d(second), pool, drop),
                nn.Sequential(*_convolutions(second, third, stride=1), drop),
            ]
        )
        self.joint_norm = _norm_1d(self.num_features)
        self.hidden = nn.Sequential(
            nn.Linear(self.num_features, HIDDEN),
            nn.ReLU(inplace=True),
            drop,
            _norm_1d(HIDDEN),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
        )
        self.apply(_initialise)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the normalised averages (b, 224) of ``images`` (b, in_chans, s, s) after each block."""
        base.check_size("gapnet_pl", images, SMALLEST)
        depths = []
        features = self.input_norm(images)
        for block in self.blocks:
            features = block(features)
            depths.append(features.mean((2, 3)))
        joint: Tensor = self.joint_norm(torch.cat(depths, dim=1))
        return joint

    def pool(self, features: Tensor) -> Tensor:
        """Return the output (b, 256) of the two hidden layers for ``features`` (b, 224)."""
        pooled: Tensor = self.hidden(features)
        return pooled

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the stem (input norm and first block) and the blocks: the two other blocks, then the hidden layers.

        So the last block and the head are the last seven layers of S2's Keras model. Its second stage trains these.
        """
        blocks = [(r"^blocks\.(\d+)\.", None), (r"^joint_norm\.", (2,)), (r"^hidden\.", (3,))]
        return {"stem": r"^input_norm\.|^blocks\.0\.", "blocks": blocks}


def _norm_2d(width: int) -> nn.Module:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


def _norm_1d(width: int) -> nn.Module:
    return nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)


def _convolution(entering: int, leaving: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(entering, leaving, kernel_size=3, stride=stride), nn.ReLU(inplace=True)


def _convolutions(entering: int, leaving: int, stride: int) -> Iterator[nn.Module]:
    """Yield three convolutions with a batch norm before each."""
    for width, step in ((entering, stride), (leaving, 1), (leaving, 1)):
        yield _norm_2d(width)
        yield from _convolution(width, leaving, step)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


@register_model
def gapnet_pl(pretrained: bool = False, **settings: Any) -> nn.Module:
    """Return a new `GapNetPL`; called by `timm.create_model`."""
    return base.build(GapNetPL, "gapnet_pl", pretrained, **settings)
