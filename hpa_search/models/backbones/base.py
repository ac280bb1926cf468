"""What timm expects of a classifier, for the backbones that are not timm's."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs
from torch import Tensor, nn


class Classifier(nn.Module):
    """A backbone with its own pooling and, where ``num_classes`` is not 0, a last linear layer ``fc``.

    A subclass says what `forward_features` and `pool` do. ``num_features`` is the width of the features, and
    ``head_hidden_size`` the width of what `pool` makes of them.
    """

    def __init__(self, num_features: int, head_hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.head_hidden_size = head_hidden_size
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Linear(head_hidden_size, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the features of ``images`` (b, c, s, s): a map (b, num_features, h, w), or what the subclass says."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """Return one vector an image, (b, head_hidden_size)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (b, num_classes); with ``pre_logits``, or without classes, what the last layer is given."""
        pooled = self.pool(features)
        logits: Tensor = pooled if pre_logits else self.fc(pooled)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return `forward_head` of the features of ``images`` (b, c, s, s)."""
        return self.forward_head(self.forward_features(images))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return which parameters make up the stem and each block, in timm's notation; ``coarse`` changes nothing here."""
        raise NotImplementedError


def default_cfgs(name: str, input_size: tuple[int, int, int], first_conv: str, **further: Any) -> Any:
    """Return what timm records of the backbone ``name``: usual input (channels, height, width), name of its first layer.

    It goes into the module variable ``default_cfgs``, where `timm.models.register_model` looks for it. There are no weights.
    """
    return generate_default_cfgs(
        {name: {"input_size": input_size, "first_conv": first_conv, "classifier": "fc", "num_classes": 0, **further}}
    )


def build(model: type[nn.Module], name: str, pretrained: bool, **settings: Any) -> nn.Module:
    """Return a new ``model`` the way timm builds its own.

    Raises RuntimeError, saying that there are none, if ``pretrained`` weights are wanted; TypeError for a setting that
    the model does not have.
    """
    return build_model_with_cfg(model, name, pretrained, **settings)


def check_pooling(name: str, global_pool: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless ``global_pool`` is one of the ``known`` ways of pooling."""
    if global_pool not in known:
        raise ValueError(f"{name} knows no pooling {global_pool!r}, only {' or '.join(map(repr, known))}")


def check_size(name: str, images: Tensor, smallest: int) -> None:
    """Raise ValueError if a side of ``images`` (b, c, h, w) has fewer pixels than ``smallest``."""
    height, width = images.shape[-2:]
    if min(height, width) < smallest:
        raise ValueError(f"{name} needs images of at least {smallest} x {smallest} pixels, not {height} x {width}")
