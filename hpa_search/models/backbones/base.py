"""The base class of our own backbones, with the conventions of a timm classifier."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs
from torch import Tensor, nn


class Classifier(nn.Module):
    """A backbone with its own pooling, and a last linear layer ``fc`` unless ``num_classes`` is 0.

    A subclass implements `forward_features`, `pool` and `group_matcher`. ``num_features`` is the width of the features.
    ``head_hidden_size`` is the width of the output of `pool`.
    """

    def __init__(self, num_features: int, head_hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.head_hidden_size = head_hidden_size
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Linear(head_hidden_size, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the features of ``images`` (b, c, s, s).

        They are a map (b, num_features, h, w), unless the subclass says otherwise.
        """
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """Return a vector for each image: (b, head_hidden_size)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (b, num_classes). With ``pre_logits``, or without classes, return the output of `pool`."""
        pooled = self.pool(features)
        logits: Tensor = pooled if pre_logits else self.fc(pooled)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of `forward_head` for ``images`` (b, c, s, s)."""
        return self.forward_head(self.forward_features(images))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the parameters of the stem and of each block, in timm's notation. ``coarse`` has no effect."""
        raise NotImplementedError


def default_cfgs(name: str, input_size: tuple[int, int, int], first_conv: str, **further: Any) -> Any:
    """Return timm's record of the backbone ``name``.

    ``input_size`` is its usual input (channels, height, width), ``first_conv`` the name of its first layer. Assign the record to
    the module variable ``default_cfgs``: `timm.models.register_model` reads it there. It names no weights.
    """
    return generate_default_cfgs(
        {name: {"input_size": input_size, "first_conv": first_conv, "classifier": "fc", "num_classes": 0, **further}}
    )


def build(model: type[nn.Module], name: str, pretrained: bool, **settings: Any) -> nn.Module:
    """Return a new ``model``, built as timm builds its own.

    Raises RuntimeError for ``pretrained``: there are no weights. Raises TypeError for an unknown setting.
    """
    return build_model_with_cfg(model, name, pretrained, **settings)


def check_pooling(name: str, global_pool: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless ``global_pool`` is among the ``known`` poolings."""
    if global_pool not in known:
        raise ValueError(f"{name} does not know the pooling {global_pool!r}, only {' or '.join(map(repr, known))}")


def check_size(name: str, images: Tensor, smallest: int) -> None:
    """Raise ValueError if a side of ``images`` (b, c, h, w) is below ``smallest`` pixels."""
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise ValueError(f"{name} needs images of at least {smallest} x {smallest} pixels, not {height} x {width}")
