"""What a trial leaves in its folder, written so that a stop at any instant loses at most the epoch in progress.

    weights/epoch-003.safetensors   the network after epoch 3; kept for the last epoch and the best one
    checkpoint.pt                   optimizer state, metrics of every epoch, and the name of the weights it goes with;
                                    where those are an average, the network in training too
    logits.npz                      validation logits of every epoch, float16 (n, 28), keys epoch_001, epoch_002 ...
    metrics.csv                     the metrics again, for people and the final stage

An epoch counts once checkpoint.pt has been renamed into place. What it refers to is written before, what it makes
superfluous is removed after. Every epoch of a trial starts from a seed of its own, so no generator's state is kept.
"""

import csv
import io
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from hpa_search.errors import UserError
from hpa_search.files import whole, write_text
from hpa_search.system_errors import OUT, Refused, hides_content, refused
from hpa_search.system_files import is_system_file
from hpa_search.training.score import Metrics

logger = logging.getLogger(__name__)

Logits = dict[int, NDArray[np.float16]]
CHECKPOINT = "checkpoint.pt"


class TakenOverError(Exception):
    """Another worker has trained the trial on: this one was given up for dead, and what it has is not wanted."""


@dataclass(frozen=True)
class Trained:
    """The network that is trained, where an average of ``updates`` of its states is what is scored and kept."""

    network: Mapping[str, Tensor]
    updates: int


@dataclass(frozen=True)
class Checkpoint:
    """A trial after a completed epoch: ``history`` has the metrics of epochs 1, 2, ...; ``identity`` says whose it is.

    ``network`` is the one that is scored and kept; ``trained`` is there where that is an average. ``micro_batch`` is how many
    images are trained on at a time where memory did not hold a batch.
    """

    identity: dict[str, Any]
    history: tuple[Metrics, ...]
    network: Mapping[str, Tensor]
    optimizer: dict[str, Any]
    logits: Logits
    trained: Trained | None = None
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        epochs = list(range(1, len(self.history) + 1))
        if not epochs or sorted(self.logits) != epochs or [row["epoch"] for row in self.history] != epochs:
            raise ValueError(f"epochs of logits {sorted(self.logits)} and of metrics do not run from 1 without holes")

    @property
    def epoch(self) -> int:
        """The last completed epoch."""
        return len(self.history)


def best_epoch(history: tuple[Metrics, ...]) -> int:
    """Return the epoch with the highest objective, the earliest of equals."""
    return 1 + max(range(len(history)), key=lambda index: history[index]["objective"])


def weights_path(folder: Path, epoch: int) -> Path:
    """Return where the trial in ``folder`` keeps its weights of ``epoch``; they exist for the last and the best only."""
    return folder / "weights" / f"epoch-{epoch:03d}.safetensors"


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write all of ``checkpoint`` to ``folder``, in the order that the module describes."""
    last, best = checkpoint.epoch, best_epoch(checkpoint.history)
    _save_logits(folder / "logits.npz", checkpoint.logits)
    with whole(weights_path(folder, last)) as temporary:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.network.items()}
        safetensors.torch.save_file(weights, temporary)
    content = {
        "identity": checkpoint.identity,
        "history": list(checkpoint.history),
        "best_epoch": best,
        "weights": weights_path(folder, last).name,
        "optimizer": checkpoint.optimizer,
    }
    if checkpoint.trained is not None:
        content["trained"] = {"network": dict(checkpoint.trained.network), "updates": checkpoint.trained.updates}
    if checkpoint.micro_batch is not None:
        content["micro_batch"] = checkpoint.micro_batch
    with whole(folder / CHECKPOINT) as temporary:
        torch.save(content, temporary)
    _settle(folder, checkpoint.history)


def checkpoint_stamp(folder: Path) -> tuple[int, int] | None:
    """Return what tells the checkpoint in ``folder`` from one that another process writes there; None where there is none."""
    try:
        # Opened, not only looked at: a file system of the network shows what others wrote when a file is opened.
        with (folder / CHECKPOINT).open("rb") as file:
            found = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def load_checkpoint(folder: Path, *, settle: bool = True) -> Checkpoint | None:
    """Return what the trial in ``folder`` last completed, or None, with a warning in the log, if it cannot be used.

    It also puts the rest of the folder in order, unless ``settle`` is false: of several readers one is to do that. A trial
    repeats exactly from its seed, so starting it anew costs time and changes nothing. Raises Refused where the system does not
    let it be read: it may be whole.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        return _load(folder, path, settle)
    except Refused:
        raise
    except Exception as error:  # a damaged file can make the readers raise nearly anything
        if hides_content(error):
            raise refused(error, folder, option=OUT, doing="the trial cannot be read or written") from error
        logger.warning("%s cannot be used (%s: %s); the trial starts again from epoch 0", path, type(error).__name__, error)
        return None


def read_logits(folder: Path) -> Logits:
    """Return the validation logits (n, 28), float16, of each epoch of the trial in ``folder``; UserError if they cannot be read."""
    path = folder / "logits.npz"
    with _named(path), np.load(path, allow_pickle=False) as stored:
        return {int(name.removeprefix("epoch_")): stored[name] for name in stored.files}


def read_objectives(folder: Path) -> dict[int, float]:
    """Return the objective of each epoch, 1, 2, ..., of the trial in ``folder``; UserError if metrics.csv cannot be read."""
    path = folder / "metrics.csv"
    with _named(path), path.open(newline="", encoding="utf-8") as file:
        objectives = {int(row["epoch"]): float(row["objective"]) for row in csv.DictReader(file)}
        if not objectives or list(objectives) != list(range(1, len(objectives) + 1)):
            raise ValueError(f"epochs {list(objectives)} do not run from 1 without holes")
    return objectives


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what reading ``path`` raises, which for a damaged file can be nearly anything, into a UserError that names it."""
    try:
        yield
    except Exception as error:
        if hides_content(error):
            raise refused(error, path, option=OUT, doing="cannot be read") from error
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UserError(f"{path} cannot be read ({reason})") from error


def _load(folder: Path, path: Path, settle: bool) -> Checkpoint:
    content = torch.load(path, map_location="cpu", weights_only=True)
    history = tuple(content["history"])
    # A trial that was stopped between its logits and its checkpoint has logits of one epoch too many.
    logits = {epoch: values for epoch, values in read_logits(folder).items() if epoch <= len(history)}
    # Opening the best weights checks that the file is as long as its header says; they are not needed to go on.
    with safe_open(weights_path(folder, best_epoch(history)), "pt"):
        pass
    network = safetensors.torch.load_file(folder / "weights" / content["weights"])
    trained = Trained(**content["trained"]) if "trained" in content else None
    optimizer, micro_batch = content["optimizer"], content.get("micro_batch")
    checkpoint = Checkpoint(content["identity"], history, network, optimizer, logits, trained, micro_batch)
    if settle:
        _settle(folder, history)
    return checkpoint


def _save_logits(path: Path, logits: Logits) -> None:
    arrays: dict[str, Any] = {f"epoch_{epoch:03d}": values for epoch, values in logits.items()}
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _save_metrics(path: Path, history: tuple[Metrics, ...]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def _settle(folder: Path, history: tuple[Metrics, ...]) -> None:
    """Make the rest of ``folder`` agree with its checkpoint, also where a stop left it half written."""
    # Before the weights go: at every instant some epoch of metrics.csv has its weights.
    _save_metrics(folder / "metrics.csv", history)
    kept = {weights_path(folder, len(history)), weights_path(folder, best_epoch(history))}
    left_over = [path for path in (folder / "weights").iterdir() if path not in kept and _is_ours(path.name)]
    for name in ("logits.npz", CHECKPOINT, "metrics.csv"):
        left_over += folder.glob(f".{name}.*")
    for path in left_over:
        path.unlink(missing_ok=True)


def _is_ours(name: str) -> bool:
    """Whether this is weights, also half written ones, and nothing that the system keeps beside them."""
    return name.startswith(".epoch-") or not is_system_file(name)
