"""A bundle as one PyTorch module for the export to ONNX."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hpa_search.bundle.manifest import Manifest
from hpa_search.bundle.resizing import resizing
from hpa_search.config import TestTime
from hpa_search.models.build import Network
from hpa_search.models.resolution import covering_crops
from hpa_search.models.symmetries import VIEWS, combined, views
from hpa_search.scoring.calibration import LARGEST_LOGIT
from hpa_search.scoring.ensemble import NOBODY


class BatchedNetwork(nn.Module):
    """A network that takes its crops and views as one batch.

    Images (b, 4, s, s) -> logits (b, 28), float32. `Network` and `Symmetric` loop over crops and views. In a graph each turn
    of the loop would be a copy of the network.
    """

    def __init__(self, network: Network, test_time: TestTime) -> None:
        super().__init__()
        self.network = network
        self.test_time = test_time

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (b, 28) of ``images``."""
        if self.test_time == "none":
            return self._best_of_crops(images)
        logits = self._best_of_crops(torch.cat(list(views(images)))).unflatten(0, (VIEWS, -1))
        return combined(logits, self.test_time)

    def _best_of_crops(self, images: Tensor) -> Tensor:
        size = self.network.crop_size
        crops = [images] if size is None else list(covering_crops(images, size))
        if len(crops) == 1:
            logits: Tensor = self.network(images)
            return logits
        return self.network(torch.cat(crops)).unflatten(0, (len(crops), -1)).amax(dim=0)


class Decided(nn.Module):
    """`Ensemble` and `DecisionRule` in PyTorch, in float64 as in numpy.

    Logits (m, b, 28) -> calibrated probabilities (b, 28), float32, and labels (b, 28), bool.
    """

    shares: Tensor
    slopes: Tensor
    offsets: Tensor
    nobody: Tensor
    slope: Tensor
    offset: Tensor
    thresholds: Tensor
    classes: Tensor

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        ensemble = manifest.ensemble
        rule, maps = ensemble.rule, ensemble.maps
        shares = torch.from_numpy(ensemble.weights)[:, None] * torch.from_numpy(manifest.covers)
        total = shares.sum(dim=0)
        values = {
            "shares": (shares / torch.where(total > 0, total, 1.0))[:, None, :],
            "slopes": torch.tensor(np.stack([platt.slope for platt in maps]))[:, None, :],
            "offsets": torch.tensor(np.stack([platt.offset for platt in maps]))[:, None, :],
            "nobody": torch.where(total > 0, 0.0, NOBODY),
            "slope": torch.tensor(rule.platt.slope),
            "offset": torch.tensor(rule.platt.offset),
            "thresholds": torch.tensor(rule.thresholds),
            "classes": torch.arange(len(rule.thresholds)),
        }
        for name, value in values.items():
            self.register_buffer(name, value, persistent=False)
        self.fill = rule.fill

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities and labels of the members' ``logits``."""
        scores = self.slopes * logits.double().clamp(-LARGEST_LOGIT, LARGEST_LOGIT) + self.offsets
        mean = (scores * self.shares).sum(dim=0) + self.nobody
        probabilities = (self.slope * mean.clamp(-LARGEST_LOGIT, LARGEST_LOGIT) + self.offset).sigmoid()
        labels = probabilities >= self.thresholds
        if self.fill:
            likeliest = self.classes == probabilities.argmax(dim=1, keepdim=True)
            labels = labels | (likeliest & ~labels.any(dim=1, keepdim=True))
        return probabilities.float(), labels


class WholeBundle(nn.Module):
    """Images uint8 (b, 4, native, native) -> probabilities (b, 28), float32, and labels (b, 28), bool.

    The channels are red, green, blue, yellow. ``networks`` are those of the manifest's members, in their order.
    """

    def __init__(self, manifest: Manifest, networks: Sequence[Network], native: int) -> None:
        super().__init__()
        self.native = native
        self.sizes = [member.config.input_size for member in manifest.members]
        self.resizings = nn.ModuleDict({str(px): resizing(native, px) for px in sorted(set(self.sizes))})
        self.members = nn.ModuleList(BatchedNetwork(network, manifest.tta) for network in networks)
        self.decided = Decided(manifest)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities and labels of ``images``."""
        resized: Mapping[int, Tensor] = {int(px): module(images) for px, module in self.resizings.items()}
        logits = [member(resized[px]) for px, member in zip(self.sizes, self.members, strict=True)]
        probabilities, labels = self.decided(torch.stack(logits))
        return probabilities, labels
