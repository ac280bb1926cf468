"""Which weights are trained: all, the head's, or those of one part of the backbone beside the head's.

The parts are those that timm's models name for learning rates by layer (`group_matcher(coarse=True)`). The head and the
further blocks of `extra_blocks` are always trained: they are new in every network.
"""

from collections.abc import Callable
from dataclasses import dataclass

from timm.models import group_parameters
from torch import nn

from hpa_search.models.create import Classifier
from hpa_search.registry import Registry


@dataclass(frozen=True)
class Trained:
    """The names of the backbone's parameters that are trained, and whether a learned input stage is."""

    backbone: frozenset[str]
    input_stage: bool = False


FREEZES: Registry[Callable[[Classifier], Trained]] = Registry("freeze")
"""Each takes a backbone and raises ValueError if it has no such part."""


@FREEZES.register("none")
def _none(backbone: Classifier) -> Trained:
    """Train everything."""
    return Trained(frozenset(name for name, _ in backbone.named_parameters()), input_stage=True)


@FREEZES.register("head")
def _head(backbone: Classifier) -> Trained:
    """Train the head only (S0, S3): the backbone computes fixed features, but for what dropout it has."""
    return Trained(frozenset())


@FREEZES.register("last_block")
def _last_block(backbone: Classifier) -> Trained:
    """Train the last block, what comes after it in the backbone, and the head (S3: final dense block and final layer).

    A single layer is no block where there are others: a last norm (DenseNet, ConvNeXt) or a last convolution after the
    pooling (MobileNet, HGNet) would leave next to nothing to be trained.
    """
    _, *groups = _groups(backbone)  # the first is the stem
    layers = [sum(_is_layer(backbone, name) for name in group) for group in groups]
    blocks = [i for i, count in enumerate(layers) if count > 1] or [i for i, count in enumerate(layers) if count]
    if not blocks:
        raise ValueError("it has no block to tell apart from the rest")
    return Trained(frozenset(name for group in groups[blocks[-1] :] for name in group))


@FREEZES.register("stem_and_head")
def _stem_and_head(backbone: Classifier) -> Trained:
    """Train the first convolution with what timm counts to the stem, a learned input stage, and the head (S4, at first)."""
    return Trained(frozenset(_stem_group(backbone, _groups(backbone))), input_stage=True)


def apply_freeze(network: nn.Module, name: str) -> None:
    """Put ``network`` (see `models.build`) into training mode with only what ``name`` says to be trained.

    Everything is set anew, so another name may come with the next epoch. Normalisation layers whose weights are frozen keep
    their running statistics, too: those belong to the weights. Raises ValueError for an unknown name, or where the backbone
    has no such part.
    """
    backbone = network.get_submodule("backbone")
    trained = FREEZES[name](backbone)
    network.train().requires_grad_(True)
    network.get_submodule("input_stage").requires_grad_(trained.input_stage)
    for parameter_name, parameter in backbone.named_parameters():
        parameter.requires_grad_(parameter_name in trained.backbone)
    _still_statistics(network, frozen=False)


def _still_statistics(module: nn.Module, frozen: bool) -> None:
    """Put what keeps running statistics within ``module`` into evaluation mode, where it is frozen.

    A norm without weights goes with what it stands in: ``frozen`` says how that is.
    """
    parameters = list(module.parameters())
    if parameters:
        frozen = not any(parameter.requires_grad for parameter in parameters)
    if frozen and any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False)):
        module.eval()
    for child in module.children():
        _still_statistics(child, frozen)


def _groups(backbone: Classifier) -> list[list[str]]:
    """Return the names of the parameters of each part of ``backbone``, from the first to the last."""
    if not hasattr(backbone, "group_matcher"):
        raise ValueError("timm does not tell its parts apart")
    groups: dict[int, list[str]] = group_parameters(backbone, backbone.group_matcher(coarse=True))
    return [groups[number] for number in sorted(groups)]


def _stem_group(backbone: Classifier, groups: list[list[str]]) -> list[str]:
    first = backbone.pretrained_cfg.get("first_conv")
    names = [f"{layer}.weight" for layer in ([first] if isinstance(first, str) else first or [])]
    for group in groups:
        if names and set(names) <= set(group):
            return group
    raise ValueError("timm names no first layer of it that could be told apart")


def _is_layer(backbone: Classifier, name: str) -> bool:
    """Tell whether a parameter is the weight of a convolution or a linear layer, and no norm's, bias or embedding."""
    return name.endswith("weight") and backbone.get_parameter(name).ndim > 1
