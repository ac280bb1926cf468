"""Check a graph against its bundle: onnxruntime against PyTorch, float32 on the CPU."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from hpa_search.bundle.manifest import Manifest
from hpa_search.config import TrialConfig
from hpa_search.data.resize import resize
from hpa_search.errors import UserError
from hpa_search.models.build import Network
from hpa_search.models.symmetries import Symmetric
from hpa_search.scoring.thresholds import DecisionRule

CLOSE = 1e-4
"""The largest difference of a probability. A label may differ where a probability is as near to its threshold."""

DRAWN_FOR = 3
"""The batch that a graph is drawn for. The check uses smaller ones."""


def reference(manifest: Manifest, networks: Sequence[Network], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the probabilities (n, 28) of ``images`` uint8 (n, 4, s, s) as `predict` computes them on a CPU.

    ``networks`` are those of the manifest's members, on the CPU and in evaluation mode.
    """
    logits = [
        _logits(network if manifest.tta == "none" else Symmetric(network, manifest.tta), member.config, images)
        for network, member in zip(networks, manifest.members, strict=True)
    ]
    ensemble = manifest.ensemble
    return ensemble.rule.probabilities(ensemble.logits(np.stack(logits)))


def _logits(network: torch.nn.Module, config: TrialConfig, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    with torch.inference_mode():
        parts = [network(torch.from_numpy(resize(part, config.input_size))).double().numpy() for part in _parts(images)]
    return np.concatenate(parts)


def run_graph(path: Path, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the probabilities and labels (n, 28) of ``images`` by the graph at ``path``.

    The graph gets two images at once, then one at a time. Raises what onnxruntime raises.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = [session.run(["probabilities", "labels"], {"images": part}) for part in _parts(images)]
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def _parts(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the first two images, then one at a time.

    A graph is drawn for `DRAWN_FOR` images, and must take any number.
    """
    yield images[:2]
    for row in range(2, len(images)):
        yield images[row : row + 1]


def compare(
    rule: DecisionRule, expected: NDArray[np.float64], probabilities: NDArray[np.float32], labels: NDArray[np.bool_]
) -> float:
    """Return the largest difference between ``probabilities`` (n, 28) and the ``expected`` ones.

    Raises UserError for a difference above `CLOSE`. Raises UserError for ``labels`` that differ from those of ``rule``,
    unless a probability that decides on the label is within `CLOSE` of its threshold.
    """
    difference = float(np.abs(probabilities - expected).max()) if np.isfinite(probabilities).all() else np.inf
    if difference > CLOSE:
        raise UserError(f"its probabilities differ by {difference:.2g} from PyTorch's; {CLOSE:g} is allowed")
    wrong = int(((labels != rule.decide(expected).labels) & ~_unclear(rule, expected)).sum())
    if wrong:
        raise UserError(f"{wrong} of its labels differ from PyTorch's though no probability is near its threshold")
    return difference


def _unclear(rule: DecisionRule, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where (n, 28) rounding may decide on a label."""
    near = np.abs(probabilities - rule.thresholds) < CLOSE
    if not rule.fill:
        return near
    # All probabilities of a row decide whether it is filled, and the two highest decide with which label.
    first, second = np.sort(probabilities, axis=1)[:, :-3:-1].T
    empty = ~((probabilities >= rule.thresholds) & ~near).any(axis=1)
    unclear: NDArray[np.bool_] = near | (empty & (near.any(axis=1) | (first - second < CLOSE)))[:, None]
    return unclear
