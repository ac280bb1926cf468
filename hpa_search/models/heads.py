"""Heads, which turn a backbone's features into logits.

A new head is a new builder, registered here. Every head ends in a linear layer named ``classifier``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hpa_search.config import TrialConfig
from hpa_search.labels import NUM_LABELS
from hpa_search.registry import Registry


class Backbone(Protocol):
    """The part of a backbone that heads use; every timm classifier has it."""

    head_hidden_size: int

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return, with ``pre_logits``, a vector for each image: (b, head_hidden_size)."""


HeadBuilder = Callable[[Backbone, int, TrialConfig], nn.Module]
"""Makes a head from a backbone without classes, the width of its features after further blocks, and the configuration."""

HEADS: Registry[HeadBuilder] = Registry("head")


def build_head(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """Return a new head: features with ``width`` channels, after further blocks -> logits (b, 28), float32.

    A backbone with a ``label_head`` brings its own head, without a hidden layer or dropout. Raises ValueError for an unknown
    head. Raises ValueError for head settings beside a backbone with its own head.
    """
    if not hasattr(backbone, "label_head"):
        return HEADS[config.head](backbone, width, config)
    if config.head != "plain" or config.dropout:
        raise ValueError(
            f"'{config.backbone}' brings a head of its own; set head 'plain' and dropout 0 "
            f"(given: head '{config.head}', dropout {config.dropout:g})"
        )
    head: nn.Module = backbone.label_head(NUM_LABELS)
    return head


class Head(nn.Module):
    """Features -> ``pool`` (b, d) -> ``layers`` (b, size) -> logits (b, 28), float32."""

    def __init__(self, pool: Callable[[Tensor], Tensor], layers: nn.Module, size: int) -> None:
        super().__init__()
        self.pool = pool
        self.layers = layers
        self.classifier = nn.Linear(size, NUM_LABELS)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (b, 28) of the backbone's ``features``."""
        pooled = self.pool(features)
        # In bfloat16 thousands of images would share a logit, and average precision could not rank them.
        with full_precision(features.device):
            logits: Tensor = self.classifier(self.layers(pooled.float()))
        return logits


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context that disables autocast. It does nothing on the meta device, which has none."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


@dataclass(frozen=True, eq=False)
class OwnPooling:
    """A backbone's own pooling, with any layers after it: features -> (b, head_hidden_size).

    It is not a module: a module would register the backbone's weights twice. It is not a closure: a copied network would share
    the closure's backbone.
    """

    backbone: Backbone

    def __call__(self, features: Tensor) -> Tensor:
        """Return the pooled ``features``."""
        return self.backbone.forward_head(features, pre_logits=True)


@dataclass(frozen=True, eq=False)
class AverageAndMaximum:
    """Global average and maximum of a map (b, width, h, w), side by side: (b, 2 head_hidden_size).

    Both pass, as images of one pixel, through the backbone's layers after its pooling. ConvNeXt has a norm there, MobileNet a
    layer, ResNet and DenseNet nothing. If skipped, the weights of these layers would never be trained.
    Raises ValueError for features that are not a map of this width.
    """

    backbone: Backbone
    width: int

    def __call__(self, features: Tensor) -> Tensor:
        """Return the pooled ``features``."""
        if features.ndim != 4 or features.shape[1] != self.width:
            shape = tuple(features.shape[1:])
            raise ValueError(
                f"the features have shape {shape} and are not a channels x height x width map, which head 'avg_max' needs"
            )
        extremes = torch.cat([features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)])
        average, maximum = OwnPooling(self.backbone)(extremes).unflatten(0, (2, -1))
        return torch.cat([average, maximum], dim=1)


@HEADS.register("plain")
def _plain(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """Pool as the backbone does -> dropout -> linear."""
    return Head(OwnPooling(backbone), nn.Dropout(config.dropout), backbone.head_hidden_size)


@HEADS.register("hidden")
def _hidden(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """Pool as the backbone does -> dropout -> linear -> ReLU -> dropout -> linear (S1, S2)."""
    hidden = _hidden_size(config)
    layers = nn.Sequential(
        nn.Dropout(config.dropout), nn.Linear(backbone.head_hidden_size, hidden), nn.ReLU(), nn.Dropout(config.dropout)
    )
    return Head(OwnPooling(backbone), layers, hidden)


@HEADS.register("avg_max")
def _avg_max(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """Pool by average and maximum -> batch norm -> dropout -> linear -> ReLU -> batch norm -> dropout -> linear.

    This is the head of the competition's winner (bestfitting, `src/networks/densenet.py` of its repository).
    """
    pooled, hidden = 2 * backbone.head_hidden_size, _hidden_size(config)
    layers = nn.Sequential(
        nn.BatchNorm1d(pooled),
        nn.Dropout(config.dropout),
        nn.Linear(pooled, hidden),
        nn.ReLU(),
        nn.BatchNorm1d(hidden),
        nn.Dropout(config.dropout),
    )
    return Head(AverageAndMaximum(backbone, width), layers, hidden)


def _hidden_size(config: TrialConfig) -> int:
    assert config.hidden_size is not None, f"head '{config.head}' without a hidden_size"
    return config.hidden_size
