"""What makes logits of a backbone's features: `build_head` returns the head that a configuration names.

A further head is a builder of its own, registered here; every one ends in a linear layer named ``classifier``.
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
    """What a head asks of a backbone; every timm classifier has it."""

    head_hidden_size: int

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return, with ``pre_logits``, one vector an image: (b, head_hidden_size)."""


HeadBuilder = Callable[[Backbone, int, TrialConfig], nn.Module]
"""Makes a head for a backbone (timm's conventions, no classes) whose features, after further blocks, have a width."""

HEADS: Registry[HeadBuilder] = Registry("head")


def build_head(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """Return a new head: features of ``backbone``, after further blocks that keep ``width`` channels -> logits (b, 28), float32.

    A backbone with a ``label_head`` brings its own, which has neither a hidden layer nor dropout. Raises ValueError for an
    unknown head, and for any setting of one beside a backbone that brings its own.
    """
    if not hasattr(backbone, "label_head"):
        return HEADS[config.head](backbone, width, config)
    if config.head != "plain" or config.dropout:
        raise ValueError(
            f"'{config.backbone}' brings a head of its own, which goes with head 'plain' and dropout 0 "
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
        """Return the logits (b, 28) of ``features`` as the backbone gives them."""
        pooled = self.pool(features)
        # In bfloat16 thousands of images would share a logit, and average precision could not rank them.
        with full_precision(features.device):
            logits: Tensor = self.classifier(self.layers(pooled.float()))
        return logits


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context without autocast; the meta device has none to begin with."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


@dataclass(frozen=True, eq=False)
class OwnPooling:
    """A backbone's own pooling and whatever layers it has after it: features -> (b, head_hidden_size).

    It is no module, so that the backbone's weights are not the head's as well; and no closure, so that a copy of the
    network has the copy's backbone in it.
    """

    backbone: Backbone

    def __call__(self, features: Tensor) -> Tensor:
        """Return the pooled ``features``."""
        return self.backbone.forward_head(features, pre_logits=True)


@dataclass(frozen=True, eq=False)
class AverageAndMaximum:
    """Global average and maximum of a map (b, width, h, w), side by side: (b, 2 head_hidden_size).

    Both pass through whatever the backbone has after its pooling (ConvNeXt a norm, MobileNet a layer, ResNet and DenseNet
    nothing), as two images of one pixel: left out, those weights would be there and never trained.
    Raises ValueError for features that are no map of this width.
    """

    backbone: Backbone
    width: int

    def __call__(self, features: Tensor) -> Tensor:
        """Return the pooled ``features``."""
        if features.ndim != 4 or features.shape[1] != self.width:
            shape = tuple(features.shape[1:])
            raise ValueError(f"the features have shape {shape} and are no channels x height x width map for head 'avg_max'")
        extremes = torch.cat([features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)])
        average, maximum = OwnPooling(self.backbone)(extremes).unflatten(0, (2, -1))
        return torch.cat([average, maximum], dim=1)


@HEADS.register("plain")
def _plain(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """The backbone's pooling -> dropout -> linear."""
    return Head(OwnPooling(backbone), nn.Dropout(config.dropout), backbone.head_hidden_size)


@HEADS.register("hidden")
def _hidden(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """The backbone's pooling -> dropout -> linear -> ReLU -> dropout -> linear (S1, S2)."""
    hidden = _hidden_size(config)
    layers = nn.Sequential(
        nn.Dropout(config.dropout), nn.Linear(backbone.head_hidden_size, hidden), nn.ReLU(), nn.Dropout(config.dropout)
    )
    return Head(OwnPooling(backbone), layers, hidden)


@HEADS.register("avg_max")
def _avg_max(backbone: Backbone, width: int, config: TrialConfig) -> nn.Module:
    """Average and maximum -> batch norm -> dropout -> linear -> ReLU -> batch norm -> dropout -> linear.

    The head of the competition's winner (bestfitting, `src/networks/densenet.py` of its repository).
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
