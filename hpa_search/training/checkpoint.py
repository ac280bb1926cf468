"""A trial's files, written so that a stop at any instant loses at most the epoch in progress.

    weights/epoch-003.safetensors   the network after epoch 3; kept for the last epoch and the best one
    checkpoint.pt                   optimizer state, metrics of every epoch, the name of the weights file, and, if those weights
                                    are an average, the network in training
    logits.npz                      validation logits of every epoch, float16 (n, 28), keys epoch_001, epoch_002 ...
    metrics.csv                     the metrics again, for people and the final stage

An epoch counts once checkpoint.pt is renamed into place. Files that it refers to are written before it. Superfluous files are
removed after it. Every epoch starts from a seed of its own, so no generator's state is kept.
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
    """Another worker continues this trial. It gave this worker up for dead, so this worker's epoch is discarded."""


@dataclass(frozen=True)
class Unaveraged:
    """The network in training, kept beside the average of ``updates`` of its states, which is scored."""

    network: Mapping[str, Tensor]
    updates: int


@dataclass(frozen=True)
class Checkpoint:
    """A trial after a completed epoch.

    ``history`` has the metrics of epochs 1, 2, ...; ``identity`` holds the trial's configuration and seed. ``network`` is the
    scored network; if it is an average, ``trained`` holds the network in training. ``micro_batch`` is the number of images
    trained on at a time, None if memory holds a whole batch. Raises ValueError if an epoch is missing.
    """

    identity: dict[str, Any]
    history: tuple[Metrics, ...]
    network: Mapping[str, Tensor]
    optimizer: dict[str, Any]
    logits: Logits
    trained: Unaveraged | None = None
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
    """Return the epoch with the highest objective; of equals, the earliest."""
    return 1 + max(range(len(history)), key=lambda index: history[index]["objective"])


def weights_path(folder: Path, epoch: int) -> Path:
    """Return the path of the weights of ``epoch``. Only the last and the best epoch keep theirs."""
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
    """Return a stamp of the checkpoint in ``folder``, None if there is none.

    The stamp changes when another process writes the checkpoint.
    """
    try:
        # Open it: a network file system shows the writes of other machines only at an open.
        with (folder / CHECKPOINT).open("rb") as file:
            found = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def load_checkpoint(folder: Path, *, settle: bool = True) -> Checkpoint | None:
    """Return the trial's last completed epoch. Log a warning and return None if its checkpoint cannot be used.

    A trial repeats exactly from its seed, so a fresh start costs time and changes nothing. Unless ``settle`` is false, also
    clear up the rest of the folder: of several readers, only one may. Raises Refused if the system refuses the read, since
    the file may be whole.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        return _load(folder, path, settle)
    except Refused:
        raise
    except Exception as error:  # readers raise nearly anything for a damaged file
        if hides_content(error):
            raise refused(error, folder, option=OUT, doing="the trial cannot be read or written") from error
        logger.warning("%s cannot be used (%s: %s); the trial starts again from epoch 0", path, type(error).__name__, error)
        return None


def read_logits(folder: Path) -> Logits:
    """Return each epoch's validation logits (n, 28), float16, of the trial in ``folder``.

    Raises UserError if logits.npz cannot be read.
    """
    path = folder / "logits.npz"
    with _named(path), np.load(path, allow_pickle=False) as stored:
        return {int(name.removeprefix("epoch_")): stored[name] for name in stored.files}


def read_objectives(folder: Path) -> dict[int, float]:
    """Return the objective of each epoch, 1, 2, ..., of the trial in ``folder``.

    Raises UserError if metrics.csv cannot be read.
    """
    path = folder / "metrics.csv"
    with _named(path), path.open(newline="", encoding="utf-8") as file:
        objectives = {int(row["epoch"]): float(row["objective"]) for row in csv.DictReader(file)}
        if not objectives or list(objectives) != list(range(1, len(objectives) + 1)):
            raise ValueError(f"epochs {list(objectives)} do not run from 1 without holes")
    return objectives


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn any error of reading ``path`` into a UserError that names it. A damaged file can raise nearly anything."""
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
    # A stop between logits and checkpoint leaves logits of one epoch too many.
    logits = {epoch: values for epoch, values in read_logits(folder).items() if epoch <= len(history)}
    # Opening the best weights checks the file's length against its header. Resuming does not need them.
    with safe_open(weights_path(folder, best_epoch(history)), "pt"):
        pass
    network = safetensors.torch.load_file(folder / "weights" / content["weights"])
    trained = Unaveraged(**content["trained"]) if "trained" in content else None
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
    """Make the rest of ``folder`` agree with its checkpoint, also after a stop half way."""
    # Write metrics.csv before weights are removed: at every instant some epoch in it has its weights.
    _save_metrics(folder / "metrics.csv", history)
    kept = {weights_path(folder, len(history)), weights_path(folder, best_epoch(history))}
    left_over = [path for path in (folder / "weights").iterdir() if path not in kept and _is_ours(path.name)]
    for name in ("logits.npz", CHECKPOINT, "metrics.csv"):
        left_over += folder.glob(f".{name}.*")
    for path in left_over:
        path.unlink(missing_ok=True)


def _is_ours(name: str) -> bool:
    """Return whether ``name`` is a weights file, whole or half written, and not a file of the system's."""
    return name.startswith(".epoch-") or not is_system_file(name)
