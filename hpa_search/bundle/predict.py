"""Predict with the networks of a bundle, or with one network on disk."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from hpa_search.bundle.manifest import Manifest
from hpa_search.config import TestTime, TrialConfig
from hpa_search.data.loader import Batches, split_rows
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS
from hpa_search.models.build import Network, build_network
from hpa_search.models.symmetries import Symmetric
from hpa_search.training.device import choose_device
from hpa_search.training.gradients import predict
from hpa_search.training.memory import MicroBatch

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


class SizedImages(Protocol):
    """Images that are available at another size, such as the packed cache."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return uint8 (b, 4, s, s)."""

    def at_size(self, px: int) -> "SizedImages":
        """Return the same images at ``px`` pixels."""


@dataclass(frozen=True)
class NetworkFile:
    """A network on disk: its configuration, its weights (safetensors), and the statistics (4) that normalise its images."""

    config: TrialConfig
    weights: Path
    mean: Sequence[float]
    std: Sequence[float]


class OpenBundle:
    """A bundle with all networks in memory, for images that come in parts."""

    def __init__(self, bundle: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._predictors = [Predictor(network, manifest.tta) for network in member_files(bundle, manifest)]

    def probabilities(
        self, images: SizedImages, rows: NDArray[np.int64], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Return the probabilities as `bundle_probabilities` does."""
        return _combined(self.manifest, self._predictors, images, rows, progress)


def bundle_probabilities(
    bundle: Path, manifest: Manifest, images: SizedImages, rows: NDArray[np.int64], progress: Progress | None = None
) -> NDArray[np.float64]:
    """Return the ensemble's calibrated probabilities (n, 28) for the images at ``rows``.

    Networks are loaded one after another. ``progress`` gets the finished passes of members, and the number of all passes.
    """
    predictors = (Predictor(network, manifest.tta) for network in member_files(bundle, manifest))
    return _combined(manifest, predictors, images, rows, progress)


def network_logits(
    network: NetworkFile, images: SizedImages, rows: NDArray[np.int64], tta: TestTime = "none"
) -> NDArray[np.float32]:
    """Return one network's logits (n, 28), computed as in training.

    The kind of device, the precision and the batch size are those of the training. With ``tta`` a logit is the log odds of a
    label over eight views of an image; see `models.symmetries`.
    """
    return Predictor(network, tta)(images, rows)


def member_files(bundle: Path, manifest: Manifest) -> list[NetworkFile]:
    """Return the networks of ``bundle``, in the order of its members."""
    return [NetworkFile(member.config, bundle / member.file, manifest.mean, manifest.std) for member in manifest.members]


def combined(manifest: Manifest, logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the ensemble's calibrated probabilities (n, 28), from its members' ``logits`` (m, n, 28)."""
    ensemble = manifest.ensemble
    return ensemble.rule.probabilities(ensemble.logits(logits.astype(np.float64)))


def load_network(file: NetworkFile, content: bytes | None = None) -> Network:
    """Return the network of ``file`` on the CPU, in evaluation mode. ``content`` is what the file holds, if it lies elsewhere.

    Raises UserError that names a file that is damaged, or of another network.
    """
    try:
        network = build_network(file.config, file.mean, file.std)
        held = safetensors.torch.load_file(file.weights) if content is None else safetensors.torch.load(content)
        network.load_state_dict(held)
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(f"{file.weights}: its weights do not fit the network '{file.config.backbone}': {why}") from None
    return network.eval()


class Predictor:
    """A network on this process's device: images and rows -> logits (n, 28)."""

    def __init__(self, file: NetworkFile, tta: TestTime, content: bytes | None = None) -> None:
        self._config, self._weights, self._device = file.config, file.weights, choose_device()
        network = self._device.place(load_network(file, content))
        self._at_once = MicroBatch(file.config.batch_size, self._say_less_memory)
        self._network: nn.Module = network if tta == "none" else Symmetric(network, tta).eval()

    def __call__(self, images: SizedImages, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the logits of the images at ``rows``. Raises UserError for logits that are not finite."""
        if not len(rows):
            return np.empty((0, NUM_LABELS), np.float32)
        sized, parts = images.at_size(self._config.input_size), split_rows(rows, self._config.batch_size, training=False)
        no_labels = np.zeros((int(rows.max()) + 1, NUM_LABELS), dtype=bool)
        batches = Batches(sized, no_labels, parts, self._device.device)
        with torch.inference_mode():
            found = [predict(self._network, batch.images, self._device, self._at_once) for batch in batches]
            logits: NDArray[np.float32] = torch.cat(found).cpu().numpy()  # the only wait for the device
        if not np.isfinite(logits).all():
            raise UserError(
                f"{self._weights}: its network '{self._config.backbone}' gives values that are not finite; leave it out"
            )
        return logits

    def _say_less_memory(self, before: int, after: int) -> None:
        logger.warning("%s: out of memory with %s images at a time; continuing with %s", self._weights, before, after)


def _combined(
    manifest: Manifest, predictors: Iterable[Predictor], images: SizedImages, rows: NDArray[np.int64], progress: Progress | None
) -> NDArray[np.float64]:
    members = np.empty((len(manifest.members), len(rows), NUM_LABELS), np.float32)
    for place, predictor in enumerate(predictors):
        members[place] = predictor(images, rows)
        if progress:
            progress(place + 1, len(members))
    return combined(manifest, members)
