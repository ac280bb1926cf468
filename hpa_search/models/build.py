"""The network of a configuration: images of four stains in, 28 logits out.

A backbone is any classifier that timm knows by name. `backbones` adds ours to these.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from hpa_search.config import TrialConfig
from hpa_search.models.channels import InputStage
from hpa_search.models.check import check_network
from hpa_search.models.create import Classifier, create_backbone
from hpa_search.models.heads import build_head
from hpa_search.models.resolution import covering_crops, further_blocks

RAREST = 1e-4
"""Prevalences are clamped to [this, 1 - this]: the log odds of a class without positives stay finite."""


class Network(nn.Module):
    """Images (b, 4, s, s), uint8 or float 0..1 -> input stage, backbone, further blocks, head -> logits (b, 28), float32.

    With ``crop_size`` the network sees crops of that size. Training feeds it random crops, which are images of just that size.
    A larger image is cut into the fewest crops that cover it. A label's logit is then the largest over the crops: a label counts
    if any part of the image shows it. A smaller image raises ValueError.
    """

    backbone: Classifier

    def __init__(self, config: TrialConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.crop_size = config.crop_size
        self.input_stage = InputStage(config.channels, config.normalise, mean, std)
        self.backbone = create_backbone(config.backbone, config.resolution, config.network_size, self.input_stage.channels)
        width = self.backbone.num_features
        self.blocks = further_blocks(config.resolution, width)
        self.head = build_head(self.backbone, width, config)
        if isinstance(last := _last_layer(self.head), nn.Linear):
            # Small weights let the prior decide the first logits (Lin et al. 2017, section 4.1).
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (b, 28), float32, of ``images`` (b, 4, s, s)."""
        if self.crop_size is None:
            return self._logits(images)
        # One crop at a time: all at once would take several times the memory of a training batch.
        return reduce(torch.maximum, map(self._logits, covering_crops(images, self.crop_size)))

    def _logits(self, images: Tensor) -> Tensor:
        features = self.backbone.forward_features(self.input_stage(images))
        logits: Tensor = self.head(self.blocks(features))
        return logits


def build_network(config: TrialConfig, mean: Sequence[float], std: Sequence[float]) -> Network:
    """Return a new network for ``config``, with random weights from torch's global generator.

    ``mean`` and ``std`` are those of the training rows: 4 entries each, in 0..1 units. `weights.load_pretrained` loads other
    weights. Raises ValueError as `check_network` does.
    """
    check_network(config)
    return Network(config, mean, std)


@torch.no_grad()
def set_prior(network: Network, prevalence: Sequence[float]) -> None:
    """Set the last bias to the log odds of ``prevalence`` (28,), so that training starts from the label frequencies.

    Otherwise negatives dominate the first epoch (Lin et al. 2017, section 4.1). A backbone with its own head (capsules) has
    no such bias and stays unchanged.
    """
    if (last := _last_layer(network.head)) is not None:
        share = torch.tensor([float(value) for value in prevalence]).clamp(RAREST, 1 - RAREST)
        last.bias.copy_(torch.logit(share))


def parameters(network: nn.Module) -> int:
    """Return the number of trainable weights of ``network``, including frozen ones."""
    return sum(parameter.numel() for parameter in network.parameters())


def _last_layer(head: nn.Module) -> nn.Linear | None:
    return getattr(head, "classifier", None)
