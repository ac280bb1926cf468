"""The backbone of a configuration, as timm makes it: with memory for its weights, or without."""

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
"""An nn.Module of timm's, whose attributes have no types."""

RGB = 3
"""The channels that published weights are for."""

KEPT = 64
"""How many backbones without memory are kept; each takes a few megabytes."""


def published(backbone: str) -> PretrainedCfg:
    """Return what timm records of ``backbone``: usual input, first layer, where its weights are.

    Raises RuntimeError, timm's, for a tag that does not exist.
    """
    return get_pretrained_cfg(backbone) or PretrainedCfg()


def usual_size(backbone: str) -> int:
    """Return the height in pixels of the images that ``backbone`` was designed for."""
    return published(backbone).input_size[-1]


def first_layers(backbone: str) -> tuple[str, ...]:
    """Return the names of the layers of ``backbone`` that see the image; of most there is one, of some timm records none."""
    names = published(backbone).first_conv
    return (names,) if isinstance(names, str) else tuple(names or ())


def create_backbone(backbone: str, resolution: str, size: int, channels: int) -> Classifier:
    """Return a new backbone without classifier for images (b, channels, size, size), random weights, as published otherwise.

    A model that is built for one size (a transformer with position embeddings) is built for this one. Raises what timm
    raises.
    """
    return timm.create_model(backbone, False, in_chans=channels, num_classes=0, **_arguments(backbone, resolution, size))


def create_published(backbone: str, resolution: str, size: int, state: dict[str, Tensor] | None = None) -> Classifier:
    """Return `create_backbone`'s for three channels with the weights that timm's hub has by its name, or those of ``state``.

    ``state`` is of the published model; timm brings position embeddings to another size. Raises what timm and its hub raise.
    """
    overlay = None if state is None else {"state_dict": state}
    return timm.create_model(
        backbone, True, pretrained_cfg_overlay=overlay, in_chans=RGB, num_classes=0, **_arguments(backbone, resolution, size)
    )


def meta_backbone(backbone: str, resolution: str, size: int, channels: int = RGB) -> Classifier:
    """Return `create_backbone`'s in evaluation mode and without memory: it has shapes but no numbers.

    The last `KEPT` are remembered: do not change them.
    """
    return _create_on_meta(backbone, channels, tuple(_arguments(backbone, resolution, size).items()))


def cause(error: Exception) -> str:
    """Return in one line what went wrong in timm, torch or the hub."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    # torch says on the second line which weights do not fit.
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _arguments(backbone: str, resolution: str, size: int) -> dict[str, Any]:
    # timm's mark of a model that takes img_size.
    sized = {"img_size": size} if published(backbone).fixed_input_size else {}
    return {**POOLING[resolution], **sized}


@lru_cache(maxsize=KEPT)
def _create_on_meta(backbone: str, channels: int, arguments: tuple[tuple[str, Any], ...]) -> Classifier:
    with torch.device("meta"):
        made = timm.create_model(backbone, False, in_chans=channels, num_classes=0, **dict(arguments)).eval()
    for module in made.modules():
        if isinstance(module, _BatchNorm):
            # It changes no shape, and on this device it takes half of the time of a network.
            vars(module)["forward"] = _unchanged
    return made


def _unchanged(features: Tensor) -> Tensor:
    return features
