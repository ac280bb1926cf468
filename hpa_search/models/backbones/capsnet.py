"""A capsule network (system S3-4): Sabour et al. 2017 (arXiv 1710.09829), in the smaller design of their SVHN experiment.

- A 9x9 convolution gives 64 channels, with ReLU.
- A 9x9 convolution of stride 2 gives 16 kinds of 6-D primary capsules. At 32 x 32 pixels these are 8 x 8 x 16 capsules.
- Routing by agreement, in 3 iterations, gives an 8-D capsule for each label.

The report "modified" this design for 28 labels at 32 x 32 pixels, and trained it from scratch. Three details are filled in.
The routing weights start with a standard deviation of 0.1. There is no decoder for reconstruction: the report names none.
The routing coefficients are constants to the gradient, as in most implementations.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from hpa_search.labels import NUM_LABELS
from hpa_search.models.backbones import base
from hpa_search.models.heads import full_precision

CHANNELS = 64
KERNEL = 9
KINDS = 16
PRIMARY = 6
LABEL = 8
ITERATIONS = 3
SMALLEST, LARGEST = 17, 64
"""The range of sizes in pixels. A smaller image leaves no capsule. The largest gives 9216 capsules, with 12 million routing
weights and, in a batch of 32, 264 MB of votes. Both grow with the area, so full-sized images would fail late."""
FARTHEST = 1e-7
"""Capsule lengths are clamped to [this, 1 - this]: logits stay finite."""

default_cfgs = base.default_cfgs("capsnet", (3, 32, 32), "conv", fixed_input_size=True)


class CapsNet(base.Classifier):
    """Images (b, in_chans, s, s) -> primary capsules (b, n, 6), n = 1024 at 32 pixels.

    Every capsule has its own routing weights, so the network takes a single ``img_size``. Raises ValueError for images of
    another size and for sizes outside 17 to 64 pixels. Any ``global_pool`` raises ValueError, too: it would average positions
    away.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 0,
        global_pool: str = "",
        img_size: int | tuple[int, int] = 32,
    ) -> None:
        base.check_pooling("capsnet", global_pool, ("",))
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        if min(size) < SMALLEST or max(size) > LARGEST:
            raise ValueError(f"capsnet takes images of {SMALLEST} to {LARGEST} pixels, not of {size[0]} x {size[1]}")
        self.img_size = size
        self.capsules = KINDS * _positions(size[0]) * _positions(size[1])
        super().__init__(PRIMARY, self.capsules * PRIMARY, 0)
        self.num_classes = num_classes
        self.conv = nn.Conv2d(in_chans, CHANNELS, KERNEL)
        self.act = nn.ReLU(inplace=True)
        self.primary = nn.Conv2d(CHANNELS, KINDS * PRIMARY, KERNEL, stride=2)
        if num_classes:
            self.fc = self.label_head(num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the primary capsules (b, n, 6), float32, of ``images`` (b, in_chans, h, w).

        They are ordered by kind, then by position.
        """
        if images.shape[-2:] != self.img_size:
            built, given = (" x ".join(map(str, size)) for size in (self.img_size, images.shape[-2:]))
            raise ValueError(f"this capsnet was built for images of {built} pixels (its img_size), not {given}")
        kinds = self.primary(self.act(self.conv(images))).float().unflatten(1, (KINDS, PRIMARY))
        return squash(kinds.movedim(2, -1).flatten(1, 3))

    def pool(self, features: Tensor) -> Tensor:
        """Return the capsules of each image side by side: (b, n, 6) -> (b, 6 n)."""
        return features.flatten(1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (b, num_classes). With ``pre_logits``, or without classes, return the output of `pool`."""
        if pre_logits or not self.num_classes:
            return self.pool(features)
        logits: Tensor = self.fc(features)
        return logits

    def label_head(self, num_labels: int = NUM_LABELS) -> "LabelCapsules":
        """Return this network's own head: a capsule for each label."""
        return LabelCapsules(self.capsules, num_labels)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the stem (first convolution) and the only block (primary capsules)."""
        return {"stem": r"^conv\.", "blocks": r"^primary\."}


class LabelCapsules(nn.Module):
    """Primary capsules (b, n, 6) -> logits (b, labels), float32, whose sigmoids are the lengths of the label capsules.

    Each primary capsule u_i casts a vote W_ij u_i for each label. `route` sums the votes to s_j. A label capsule squash(s_j)
    has the length |s|^2 / (1 + |s|^2), the sigmoid of log |s|^2. So log |s|^2 is the logit.
    """

    def __init__(self, capsules: int, num_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(capsules, num_labels, LABEL, PRIMARY))
        nn.init.normal_(self.weight, std=0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (b, labels) of the capsules ``features`` (b, n, 6)."""
        with full_precision(features.device):
            votes = torch.einsum("bid,ijed->bije", features.float(), self.weight)
            odds = route(votes, ITERATIONS).square().sum(dim=-1)
            return odds.clamp(FARTHEST, 1 / FARTHEST).log()


def route(votes: Tensor, iterations: int) -> Tensor:
    """Return the sums s (b, j, e) of the ``votes`` (b, i, j, e) of capsules i for capsules j, before squashing.

    This is routing by agreement (Sabour et al. 2017, procedure 1). Each i divides its weight among all j. The shares are a
    softmax of the agreement of its votes with the outcome so far. The shares are constants to the gradient.
    """
    agreement = votes.new_zeros(votes.shape[:-1])
    with torch.no_grad():
        for _ in range(iterations - 1):
            outcome = squash(_weighted_sum(agreement, votes))
            agreement = agreement + torch.einsum("bije,bje->bij", votes, outcome)
    return _weighted_sum(agreement, votes)


def _weighted_sum(agreement: Tensor, votes: Tensor) -> Tensor:
    return torch.einsum("bij,bije->bje", agreement.softmax(dim=-1), votes)


def squash(vectors: Tensor) -> Tensor:
    """Return ``vectors`` s (..., d) with length |s|^2 / (1 + |s|^2) and the same direction (Sabour et al. 2017, equation 1)."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (length / (1 + length.square()))


def _positions(size: int) -> int:
    """Return the number of capsules of a kind along a side of ``size`` pixels."""
    return (size - 2 * (KERNEL - 1) - 1) // 2 + 1


@register_model
def capsnet(pretrained: bool = False, **settings: Any) -> nn.Module:
    """Return a new `CapsNet`; called by `timm.create_model`."""
    return base.build(CapsNet, "capsnet", pretrained, **settings)
