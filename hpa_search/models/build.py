"""From a configuration to a network: uint8 images of four stains in, 28 logits out.

A backbone is any classifier that timm knows by name. A backbone of our own becomes one by being registered with
`timm.models.register_model`, and then needs nothing here.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import timm
import torch
from torch import Tensor, nn

from hpa_search.config import TrialConfig
from hpa_search.errors import nearest
from hpa_search.labels import NUM_LABELS
from hpa_search.models.channels import STAINS, InputStage
from hpa_search.models.resolution import POOLING, further_blocks

RAREST = 1e-4
"""Prevalences are clamped to this and one minus this, so that the log prior of a class without positives stays finite."""


class Network(nn.Module):
    """Input stage, backbone, further blocks, head: images (b, 4, s, s), uint8 or float 0..1 -> logits (b, 28)."""

    def __init__(self, config: TrialConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.input_stage = InputStage(config.channels, mean, std)
        self.backbone = timm.create_model(
            config.backbone, pretrained=False, in_chans=self.input_stage.channels, num_classes=0, **POOLING[config.resolution]
        )
        self.blocks = further_blocks(config.resolution, self.backbone.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.backbone.head_hidden_size, NUM_LABELS)
        # Small weights leave the prior in charge of the first logits (Lin et al. 2017, section 4.1).
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (b, 28), float32, of ``images`` (b, 4, s, s)."""
        features = self.backbone.forward_features(self.input_stage(images))
        pooled = self.backbone.forward_head(self.blocks(features))
        # In bfloat16 thousands of images would share a logit, and average precision could not rank them.
        with _full_precision(images.device):
            logits: Tensor = self.classifier(self.dropout(pooled.float()))
        return logits


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context without autocast; the meta device has none to begin with."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def build_network(config: TrialConfig, mean: Sequence[float], std: Sequence[float]) -> Network:
    """Return a new network for ``config`` that normalises by ``mean`` and ``std`` (4 entries each, in 0..1 units).

    Weights are random, drawn from torch's global generator. Raises ValueError where `check_backbone` does.
    """
    check_backbone(config)
    return Network(config, mean, std)


@torch.no_grad()
def set_prior(network: Network, prevalence: Sequence[float]) -> None:
    """Set the last bias to the log odds of ``prevalence`` (28,), so that training starts from the label frequencies.

    It spares the first epoch the flood of negatives (Lin et al. 2017, section 4.1).
    """
    share = torch.tensor([float(value) for value in prevalence]).clamp(RAREST, 1 - RAREST)
    network.classifier.bias.copy_(torch.logit(share))


def check_backbone(config: TrialConfig) -> None:
    """Raise ValueError if timm does not know the backbone, or it cannot work at this strategy and size.

    The network is run on torch's meta device: shapes are computed, numbers are not, so it takes a fraction of a second
    and no memory. Answers are remembered.
    """
    fault = _fault(config.backbone, config.resolution, config.channels, config.input_size)
    if fault:
        raise ValueError(fault)


@cache
def _fault(backbone: str, resolution: str, channels: str, size: int) -> str:
    """Return what is wrong with this combination, or an empty string."""
    if not timm.is_model(backbone):
        return f"backbone: timm knows no model '{backbone}'{nearest(backbone, timm.list_models())}"
    config = TrialConfig.model_construct(
        backbone=backbone, resolution=resolution, channels=channels, full_size=size, small_size=size, dropout=0.0
    )
    try:
        shape = _output_shape(config, size)
    except Exception as error:  # timm's models fail in as many ways as there are models
        return f"backbone: '{backbone}' does not work with resolution '{resolution}' at {size} pixels: {_first_line(error)}"
    if shape != (2, NUM_LABELS):
        return f"backbone: '{backbone}' gives outputs of shape {shape[1:]} with resolution '{resolution}', not one per label"
    return ""


def _output_shape(config: TrialConfig, size: int) -> tuple[int, ...]:
    """Return the shape of the logits of two images, computed without doing the arithmetic."""
    with torch.device("meta"), torch.no_grad():
        network = Network(config, [0.0] * len(STAINS), [1.0] * len(STAINS)).eval()
        images = torch.empty(2, len(STAINS), size, size, dtype=torch.uint8)
        if config.resolution == "extra_blocks":
            _require_map(network, images)
        return tuple(network(images).shape)


def _require_map(network: Network, images: Tensor) -> None:
    """Raise ValueError unless the backbone's features are a map of shape (b, c, h, w), as convolutions need them."""
    shape = tuple(network.backbone.forward_features(network.input_stage(images)).shape)
    if len(shape) != 4 or shape[1] != network.backbone.num_features:
        raise ValueError(f"its features have shape {shape[1:]} and are no channels x height x width map to append blocks to")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
