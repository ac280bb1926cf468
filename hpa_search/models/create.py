"""Backbones by timm, with memory for their weights or on the meta device."""

from functools import lru_cache
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

import hpa_search.models.backbones  # noqa: F401  # makes our own known to timm
from hpa_search.models.resolution import POOLING

Classifier = Any
"""A classifier of timm: an nn.Module whose attributes have no types."""

RGB = 3
"""The number of channels of published weights."""

KEPT = 64
"""How many backbones on the meta device are cached; each takes a few megabytes."""


def published(backbone: str) -> PretrainedCfg:
    """Return timm's record of ``backbone``: usual input, first layer, place of the weights.

    Raises timm's RuntimeError for an unknown tag.
    """
    return get_pretrained_cfg(backbone) or PretrainedCfg()


def usual_size(backbone: str) -> int:
    """Return the height in pixels of the images for which ``backbone`` was designed."""
    return published(backbone).input_size[-1]


def first_layers(backbone: str) -> tuple[str, ...]:
    """Return the names of the first layers of ``backbone``. Most have one; for some timm records none."""
    names = published(backbone).first_conv
    return (names,) if isinstance(names, str) else tuple(names or ())


def create_backbone(backbone: str, resolution: str, size: int, channels: int) -> Classifier:
    """Return a new backbone for images (b, channels, size, size).

    Its weights are random, and it has no classifier. A model for a single size is built for this ``size``; an example is a
    transformer with position embeddings. Raises timm's errors.
    """
    return timm.create_model(backbone, False, in_chans=channels, num_classes=0, **_arguments(backbone, resolution, size))


def create_published(backbone: str, resolution: str, size: int, state: dict[str, Tensor] | None = None) -> Classifier:
    """Return a backbone as `create_backbone` does, for three channels, with timm's published weights.

    ``state``, a state_dict of the published model, replaces a download. timm resizes position embeddings. Raises the errors of
    timm and its hub.
    """
    overlay = None if state is None else {"state_dict": state}
    return timm.create_model(
        backbone, True, pretrained_cfg_overlay=overlay, in_chans=RGB, num_classes=0, **_arguments(backbone, resolution, size)
    )


def meta_backbone(backbone: str, resolution: str, size: int, channels: int = RGB) -> Classifier:
    """Return a backbone as `create_backbone` does, on the meta device: it has shapes but no numbers.

    It is in evaluation mode. The last `KEPT` are cached: do not modify them.
    """
    return _create_on_meta(backbone, channels, tuple(_arguments(backbone, resolution, size).items()))


def cause(error: Exception) -> str:
    """Return the message of an error of timm, torch or the hub, in one line."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    # The second line of torch's message says which weights do not fit.
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _arguments(backbone: str, resolution: str, size: int) -> dict[str, Any]:
    # timm marks models that take img_size by this field.
    sized = {"img_size": size} if published(backbone).fixed_input_size else {}
    return {**POOLING[resolution], **sized}


@lru_cache(maxsize=KEPT)
def _create_on_meta(backbone: str, channels: int, arguments: tuple[tuple[str, Any], ...]) -> Classifier:
    with torch.device("meta"):
        made = timm.create_model(backbone, False, in_chans=channels, num_classes=0, **dict(arguments)).eval()
    for module in made.modules():
        if isinstance(module, _BatchNorm):
            # Batch norm changes no shape, but takes half of a network's time on this device.
            vars(module)["forward"] = _unchanged
    return made


def _unchanged(features: Tensor) -> Tensor:
    return features
