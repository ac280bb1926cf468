"""Predicting with networks on disk, and with the bundle that holds them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from hpa_search.bundle.manifest import Manifest
from hpa_search.config import TrialConfig
from hpa_search.data.loader import Batches, split_rows
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS
from hpa_search.models.build import Network, build_network
from hpa_search.scoring.final import ensemble_logits
from hpa_search.training.device import choose_device

Progress = Callable[[int, int], None]


class SizedImages(Protocol):
    """Images that can be handed out at another size, such as the packed cache."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return uint8 (b, 4, s, s)."""

    def at_size(self, px: int) -> "SizedImages":
        """Return the same images at ``px`` pixels."""


def bundle_probabilities(
    bundle: Path, manifest: Manifest, images: SizedImages, rows: NDArray[np.int64], progress: Progress | None = None
) -> NDArray[np.float64]:
    """Return the ensemble's calibrated probabilities (n, 28) for the images at ``rows``.

    ``progress`` is called with the member passes done and the number of all.
    """
    members = []
    for done, member in enumerate(manifest.members):
        members.append(network_logits(member.config, bundle / member.file, manifest.mean, manifest.std, images, rows))
        if progress:
            progress(done + 1, len(manifest.members))
    weights = [member.weight for member in manifest.members]
    return manifest.decision_rule.probabilities(ensemble_logits(np.stack(members), weights, manifest.covers))


def network_logits(
    config: TrialConfig, weights: Path, mean: Sequence[float], std: Sequence[float], images: SizedImages, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return one network's logits (n, 28), computed as in training: same device, precision and batches' rows."""
    device = choose_device()
    network = _load(config, weights, mean, std).to(device.device).to(memory_format=device.memory_format).eval()
    sized, logits = images.at_size(config.input_size), np.empty((len(rows), NUM_LABELS), np.float32)
    parts = split_rows(np.arange(len(rows)), config.batch_size, training=False)
    batches = Batches(
        sized, np.zeros((_highest(rows) + 1, NUM_LABELS), dtype=bool), [rows[part] for part in parts], device.device
    )
    with torch.inference_mode(), device.autocast():
        for part, batch in zip(parts, batches, strict=True):
            logits[part] = network(batch.images).float().cpu().numpy()
    if not np.isfinite(logits).all():
        raise UserError(f"{weights}: its network '{config.backbone}' gives values that are no numbers; leave it out")
    return logits


def _highest(rows: NDArray[np.int64]) -> int:
    return int(rows.max(initial=-1))


def _load(config: TrialConfig, weights: Path, mean: Sequence[float], std: Sequence[float]) -> Network:
    try:
        network = build_network(config, mean, std)
        network.load_state_dict(safetensors.torch.load_file(weights))
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(f"{weights}: its weights do not fit the network '{config.backbone}': {why}") from None
    return network
