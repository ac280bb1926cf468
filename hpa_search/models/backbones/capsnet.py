"""A capsule network (system S3-4): Sabour et al. 2017 (arXiv 1710.09829), in the smaller design of their SVHN experiment.

That design: a 9x9 convolution to 64 channels with ReLU; 16 kinds of 6-D primary capsules from a 9x9 convolution of stride 2;
one 8-D capsule for each label; 3 iterations of routing by agreement. At 32 x 32 pixels there are 8 x 8 x 16 primary capsules.
The report's: this design "modified" for 28 labels, 32 x 32 pixels, trained from scratch. Filled in: weights of the routing
drawn with a standard deviation of 0.1, no decoder for reconstruction (the report names none), and no gradient through the
routing coefficients, which count as constants as they do in most implementations.
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
"""Pixels: below the first no capsule is left; at the second there are 9216, with 12 million routing weights and, in a batch
of 32, 264 MB of votes. Both grow with the area, so that a configuration of full-sized images would fail late."""
FARTHEST = 1e-7
"""Logits are those of lengths between this and one minus this."""

default_cfgs = base.default_cfgs("capsnet", (3, 32, 32), "conv", fixed_input_size=True)


class CapsNet(base.Classifier):
    """Images (b, in_chans, s, s) -> primary capsules (b, n, 6), n = 1024 at 32 pixels.

    Every capsule has routing weights of its own, so the network is built for one ``img_size`` and refuses others with a
    ValueError; so it does a size outside 17 to 64 pixels, and any ``global_pool``, which would average the positions away.
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
        """Return the primary capsules (b, n, 6), float32, of ``images`` (b, in_chans, h, w): by kind, then by position."""
        if images.shape[-2:] != self.img_size:
            built, given = (" x ".join(map(str, size)) for size in (self.img_size, images.shape[-2:]))
            raise ValueError(f"this capsnet was built for images of {built} pixels (its img_size), not {given}")
        kinds = self.primary(self.act(self.conv(images))).float().unflatten(1, (KINDS, PRIMARY))
        return squash(kinds.movedim(2, -1).flatten(1, 3))

    def pool(self, features: Tensor) -> Tensor:
        """Return all capsules of an image side by side: (b, n, 6) -> (b, 6 n)."""
        return features.flatten(1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (b, num_classes); with ``pre_logits``, or without classes, `pool` of the ``features``."""
        if pre_logits or not self.num_classes:
            return self.pool(features)
        logits: Tensor = self.fc(features)
        return logits

    def label_head(self, num_labels: int = NUM_LABELS) -> "LabelCapsules":
        """Return the head that belongs to this network: a capsule for each label."""
        return LabelCapsules(self.capsules, num_labels)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the stem (first convolution) and the one block (primary capsules)."""
        return {"stem": r"^conv\.", "blocks": r"^primary\."}


class LabelCapsules(nn.Module):
    """Primary capsules (b, n, 6) -> logits (b, labels), float32, whose sigmoids are the lengths of the label capsules.

    Each primary capsule u_i makes a vote W_ij u_i for each label, and `route` sums them to s_j. A label capsule squash(s_j)
    has the length |s|^2 / (1 + |s|^2), which is the sigmoid of log |s|^2: so this is the logit.
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
    """Return the sums s (b, j, e), before squashing, of the ``votes`` (b, i, j, e) of capsules i for capsules j.

    Routing by agreement (Sabour et al. 2017, procedure 1): each i divides itself among all j, by a softmax of how far its
    votes agreed with the outcome so far. These shares are constants to the gradient.
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
    """Return ``vectors`` (..., d) in their own direction, of length |s|^2 / (1 + |s|^2) (Sabour et al. 2017, equation 1)."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (length / (1 + length.square()))


def _positions(size: int) -> int:
    """Return how many capsules of one kind there are along a side of ``size`` pixels."""
    return (size - 2 * (KERNEL - 1) - 1) // 2 + 1


@register_model
def capsnet(pretrained: bool = False, **settings: Any) -> nn.Module:
    """Return a new `CapsNet`; called by `timm.create_model`."""
    return base.build(CapsNet, "capsnet", pretrained, **settings)
