"""Freezing: training of all weights, of the head, or of the head and a part of the backbone.

The parts are timm's groups for learning rates by layer (`group_matcher(coarse=True)`). The head is always trained, and so are
the further blocks of `extra_blocks`. Both are new in every network.
"""

from collections.abc import Callable
from dataclasses import dataclass

from timm.models import group_parameters
from torch import nn

from hpa_search.models.create import Classifier
from hpa_search.registry import Registry


@dataclass(frozen=True)
class Unfrozen:
    """The names of the backbone's trained parameters. ``input_stage`` says whether a learned input stage is trained."""

    backbone: frozenset[str]
    input_stage: bool = False


FREEZES: Registry[Callable[[Classifier], Unfrozen]] = Registry("freeze")
"""Each entry takes a backbone; it raises ValueError if the backbone has no such part."""


@FREEZES.register("none")
def _none(backbone: Classifier) -> Unfrozen:
    """Train everything."""
    return Unfrozen(frozenset(name for name, _ in backbone.named_parameters()), input_stage=True)


@FREEZES.register("head")
def _head(backbone: Classifier) -> Unfrozen:
    """Train the head alone (S0, S3).

    The backbone computes fixed features, apart from its own dropout.
    """
    return Unfrozen(frozenset())


@FREEZES.register("last_block")
def _last_block(backbone: Classifier) -> Unfrozen:
    """Train the last block, all layers after it, and the head (S3: final dense block and final layer).

    A single layer counts as a block only if there are no larger blocks. Some backbones end in a norm (DenseNet, ConvNeXt), or in
    a convolution after the pooling (MobileNet, HGNet). Training these alone would change hardly any weights.
    """
    _, *groups = _groups(backbone)  # the first is the stem
    layers = [sum(_is_layer(backbone, name) for name in group) for group in groups]
    blocks = [i for i, count in enumerate(layers) if count > 1] or [i for i, count in enumerate(layers) if count]
    if not blocks:
        raise ValueError("it has no block apart from its stem")
    return Unfrozen(frozenset(name for group in groups[blocks[-1] :] for name in group))


@FREEZES.register("stem_and_head")
def _stem_and_head(backbone: Classifier) -> Unfrozen:
    """Train the stem, a learned input stage, and the head (S4, at first).

    The stem is timm's part with the first convolution.
    """
    return Unfrozen(frozenset(_stem_group(backbone, _groups(backbone))), input_stage=True)


def apply_freeze(network: nn.Module, name: str) -> None:
    """Put ``network`` (see `models.build`) into training mode, with all weights frozen that ``name`` excludes.

    Each call sets every flag anew, so epochs may use different names. A norm with frozen weights also keeps its running
    statistics, which belong to its weights. Raises ValueError for an unknown name, or a backbone without the named part.
    """
    backbone = network.get_submodule("backbone")
    trained = FREEZES[name](backbone)
    network.train().requires_grad_(True)
    network.get_submodule("input_stage").requires_grad_(trained.input_stage)
    for parameter_name, parameter in backbone.named_parameters():
        parameter.requires_grad_(parameter_name in trained.backbone)
    _freeze_statistics(network, frozen=False)


def _freeze_statistics(module: nn.Module, frozen: bool) -> None:
    """Put frozen layers with running statistics into evaluation mode.

    A norm without weights follows the module around it, whose state is ``frozen``.
    """
    parameters = list(module.parameters())
    if parameters:
        frozen = not any(parameter.requires_grad for parameter in parameters)
    if frozen and any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False)):
        module.eval()
    for child in module.children():
        _freeze_statistics(child, frozen)


def _groups(backbone: Classifier) -> list[list[str]]:
    """Return the parameter names of each part of ``backbone``, from first to last."""
    if not hasattr(backbone, "group_matcher"):
        raise ValueError("timm does not name its parts")
    groups: dict[int, list[str]] = group_parameters(backbone, backbone.group_matcher(coarse=True))
    return [groups[number] for number in sorted(groups)]


def _stem_group(backbone: Classifier, groups: list[list[str]]) -> list[str]:
    first = backbone.pretrained_cfg.get("first_conv")
    names = [f"{layer}.weight" for layer in ([first] if isinstance(first, str) else first or [])]
    for group in groups:
        if names and set(names) <= set(group):
            return group
    raise ValueError("timm does not name its first layer, or names it in no part")


def _is_layer(backbone: Classifier, name: str) -> bool:
    """Return whether a parameter is the weight of a convolution or a linear layer."""
    return name.endswith("weight") and backbone.get_parameter(name).ndim > 1
