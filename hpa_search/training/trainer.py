"""One trial: a configuration trained epoch by epoch, scored on the validation rows, and saved after each epoch.

An ordinary PyTorch program that knows nothing of a cluster or of other trials.
"""

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from hpa_search.config import TrialConfig
from hpa_search.data.augment import augment
from hpa_search.data.loader import Batches, Images, shuffled, split_rows
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS
from hpa_search.models.build import Network, build_network, set_prior
from hpa_search.scoring.metrics import macro_average_precision, macro_f1, sample_f1
from hpa_search.scoring.thresholds import cross_fitted
from hpa_search.training.checkpoint import Checkpoint, Logits, Metrics, load_checkpoint, save_checkpoint
from hpa_search.training.class_weights import class_weights
from hpa_search.training.device import Device, choose_device
from hpa_search.training.losses import build_loss
from hpa_search.training.optim import build_optimizer, learning_rate, set_learning_rate

Objective = Literal["macro_ap", "macro_f1"]

LOOK_EVERY = 50
"""Steps between looks at the loss: each makes the host wait for the device."""

FOLDS = 5
"""Folds of the validation rows; the thresholds of each are fitted on the others."""

_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


class DivergedError(Exception):
    """The loss is no finite number any more; ``step`` counts from 1 within ``epoch``, and is 0 for the validation."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(epoch, step)
        self.epoch = epoch
        self.step = step

    def __str__(self) -> str:
        where = f"at step {self.step}" if self.step else "on the validation rows"
        return f"the loss is no finite number in epoch {self.epoch} {where}; a lower learning rate may help"


@dataclass(frozen=True)
class TrialData:
    """What all trials of a search share.

    ``images`` hands out uint8 (b, 4, s, s) by row, s being the trial's input size; ``labels`` is bool (n, 28);
    ``train`` and ``validation`` are distinct row numbers; ``mean`` and ``std`` (4,) are those of the training images
    in 0..1 units; ``groups`` (n,) names the group of each row, None where each row is its own. Raises ValueError if
    these do not fit together.
    """

    images: Images
    labels: NDArray[np.bool_]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    groups: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.shape[1] != NUM_LABELS or self.labels.dtype != np.bool_:
            raise ValueError(f"labels must be bool (n, {NUM_LABELS}), got {self.labels.dtype} {self.labels.shape}")
        if len(self.train) < 2 or len(self.validation) < FOLDS:
            counts = f"{len(self.train)} training and {len(self.validation)} validation rows"
            raise ValueError(f"{counts}; at least 2 and {FOLDS} are needed")
        if np.intersect1d(self.train, self.validation).size:
            raise ValueError("training and validation share rows")
        if self.groups is not None and self.groups.shape != self.labels.shape[:1]:
            raise ValueError(f"groups must be one a row, ({len(self.labels)},), got {self.groups.shape}")

    def folding(self) -> tuple[int, NDArray[np.str_] | None]:
        """Return the number of folds of the validation rows, and their groups, which folds leave whole.

        Fewer groups than FOLDS give fewer folds. Rows of one single group are torn apart, for thresholds must be fitted
        to some of them: the macro F1 of that is flattered.
        """
        if self.groups is None:
            return FOLDS, None
        groups = self.groups[self.validation]
        folds = min(FOLDS, len(np.unique(groups)))
        return (folds, groups) if folds > 1 else (FOLDS, None)


class Trainer:
    """Trains one trial, an epoch at a time, and goes on from ``folder`` if the trial was stopped there.

    ``epochs`` are those of the top rung, over which the learning rate is laid out; ``classes`` is the bool mask (28,)
    of the classes that macro AP averages; every random draw comes from ``seed``. Raises UserError if ``folder`` holds
    the training of another configuration or seed, ValueError for images of a wrong size or an unusable backbone.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: TrialData,
        *,
        epochs: int,
        seed: int,
        folder: Path,
        classes: NDArray[np.bool_],
        objective: Objective = "macro_ap",
        device: Device | None = None,
    ) -> None:
        self.config = config
        self._data = data
        self._epochs = epochs
        self._seed = seed
        self._folder = folder
        self._classes = classes
        self._objective = objective
        self._device = device or choose_device()
        self._history: list[Metrics] = []
        self._logits: Logits = {}
        _check_images(data, config.input_size)
        self._start()
        self._resume()

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return len(self._history)

    @property
    def history(self) -> tuple[Metrics, ...]:
        """The metrics of epochs 1, 2, ... in order."""
        return tuple(self._history)

    @property
    def network(self) -> Network:
        """The network as it is now, on its device; gone after `close`."""
        return self._network

    def run_epoch(self) -> Metrics:
        """Train one epoch, score it on the validation rows, save it, and return its metrics.

        epoch, train_loss and validation_loss (the trial's own loss; not comparable between losses), macro_ap,
        macro_f1_at_half (every threshold 0.5), macro_f1 and sample_f1 (thresholds fitted on other folds), objective,
        seconds, learning_rate (of the last step), images_per_second (in training).
        Raises DivergedError if a loss is not finite, RuntimeError if all ``epochs`` are done.
        """
        if self.epoch >= self._epochs:
            raise RuntimeError(f"all {self._epochs} epochs of the trial in {self._folder} are done")
        epoch, started = self.epoch + 1, time.perf_counter()
        # A seed for each epoch, not one stream of draws: nothing random has to survive a stop, or a trial before this one.
        torch.manual_seed(_stream(self._seed, epoch, "network"))
        train_loss, images, rate = self._train(epoch)
        trained = time.perf_counter()
        logits = self._predict(self._data.validation)
        metrics: Metrics = {"epoch": epoch, "train_loss": train_loss, **self._score(logits, epoch)}
        metrics["objective"] = metrics[self._objective]
        metrics["seconds"] = time.perf_counter() - started
        metrics["learning_rate"] = rate
        metrics["images_per_second"] = images / (trained - started)
        self._history.append(metrics)
        self._logits[epoch] = logits
        self._save()
        return metrics

    def close(self) -> None:
        """Free the network, the optimizer and the device's memory; the trainer is of no use afterwards."""
        for name in ("_network", "_optimizer", "_loss"):
            vars(self).pop(name, None)
        gc.collect()
        if self._device.device.type == "cuda":
            torch.cuda.empty_cache()

    def _start(self) -> None:
        """Build network, optimizer and loss as they are before the first epoch."""
        torch.manual_seed(_stream(self._seed, 0, "network"))
        train_labels = self._data.labels[self._data.train]
        network = build_network(self.config, self._data.mean.tolist(), self._data.std.tolist())
        set_prior(network, train_labels.mean(axis=0).tolist())
        self._network = network.to(self._device.device).to(memory_format=self._device.memory_format)
        self._optimizer = build_optimizer(self._network, self.config)
        self._loss = build_loss(self.config, class_weights(self.config.class_weights, train_labels), self._device.device)

    def _resume(self) -> None:
        """Take up the trial where the checkpoint in the folder left it, if there is a usable one."""
        checkpoint = load_checkpoint(self._folder)
        if checkpoint is None:
            return
        if not self._owns(checkpoint.identity):
            raise UserError(f"{self._folder} holds the training of another configuration or seed; use another folder")
        self._network.load_state_dict(checkpoint.network)
        self._optimizer.load_state_dict(checkpoint.optimizer)
        self._history = list(checkpoint.history)
        self._logits = checkpoint.logits

    def _save(self) -> None:
        network, optimizer = self._network.state_dict(), self._optimizer.state_dict()
        save_checkpoint(self._folder, Checkpoint(self._identity(), self.history, network, optimizer, self._logits))

    def _identity(self) -> dict[str, Any]:
        return {"config": self.config.model_dump(mode="json"), "seed": self._seed}

    def _owns(self, identity: dict[str, Any]) -> bool:
        """Tell whether ``identity`` is this trial's; settings that it lacks have their defaults."""
        try:
            return TrialConfig.model_validate(identity["config"]) == self.config and identity["seed"] == self._seed
        except (KeyError, ValidationError):
            return False

    def _train(self, epoch: int) -> tuple[float, int, float]:
        """Make one pass over the training rows; return the mean loss, the images seen and the last learning rate."""
        order = shuffled(self._data.train, self._seed, epoch)
        batches = self._batches(split_rows(order, self.config.batch_size, training=True))
        generator = torch.Generator().manual_seed(_stream(self._seed, epoch, "augment"))
        losses: list[Tensor] = []
        sizes: list[int] = []
        self._network.train()
        for step, batch in enumerate(batches):
            rate = self._set_rate(step, epoch, len(batches))
            losses.append(self._step(augment(batch.images, self.config.augment, generator), batch.labels))
            sizes.append(len(batch))
            if len(losses) % LOOK_EVERY == 0:
                _require_finite(losses[-LOOK_EVERY:], epoch, first=len(losses) - LOOK_EVERY)
        values = _require_finite(losses, epoch)
        return float(np.average(values, weights=sizes)), sum(sizes), rate

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Update the weights on one batch; return its loss, still on the device."""
        with self._device.autocast():
            logits = self._network(images)
        loss = self._loss(logits.float(), labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def _set_rate(self, step: int, epoch: int, steps_per_epoch: int) -> float:
        done = (epoch - 1) * steps_per_epoch + step
        rate = learning_rate(self.config, done, steps_per_epoch=steps_per_epoch, epochs=self._epochs)
        set_learning_rate(self._optimizer, rate)
        return rate

    @torch.no_grad()
    def _predict(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the logits (n, 28) of ``rows``, in their order."""
        self._network.eval()
        parts = []
        for batch in self._batches(split_rows(rows, self.config.batch_size, training=False)):
            with self._device.autocast():
                parts.append(self._network(batch.images).float())
        logits = torch.cat(parts).clamp(-_LARGEST_FLOAT16, _LARGEST_FLOAT16)
        return logits.cpu().numpy().astype(np.float16)

    def _score(self, stored: NDArray[np.float16], epoch: int) -> Metrics:
        """Return the validation metrics of the logits as they are stored, so that they can be computed again."""
        logits, labels = stored.astype(np.float32), self._data.labels[self._data.validation]
        on_device = self._device.device
        loss = self._loss(torch.from_numpy(logits).to(on_device), torch.from_numpy(labels).float().to(on_device))
        _require_finite([loss], epoch, first=-1)
        folds, groups = self._data.folding()
        fitted = cross_fitted(logits, labels, folds=folds, seed=0, groups=groups)
        return {
            "validation_loss": float(loss),
            "macro_ap": float(macro_average_precision(logits, labels, classes=self._classes)),
            "macro_f1_at_half": float(macro_f1(logits > 0, labels)),
            "macro_f1": float(macro_f1(fitted, labels)),
            "sample_f1": float(sample_f1(fitted, labels)),
        }

    def _batches(self, parts: list[NDArray[np.int64]]) -> Batches:
        return Batches(self._data.images, self._data.labels, parts, self._device.device)


def _stream(seed: int, epoch: int, use: Literal["network", "augment"]) -> int:
    """Return a seed for torch that differs for every ``seed``, ``epoch`` and ``use``."""
    words = np.random.SeedSequence([seed, epoch, ("network", "augment").index(use)]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _require_finite(losses: list[Tensor], epoch: int, first: int = 0) -> NDArray[np.float64]:
    """Return ``losses`` as numbers; DivergedError if one is not finite, its step counted from ``first`` + 1."""
    values = torch.stack(losses).double().cpu().numpy()
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise DivergedError(epoch, first + int(broken[0]) + 1)
    return values


def _check_images(data: TrialData, size: int) -> None:
    image = data.images.gather(data.train[:1])
    if image.shape != (1, 4, size, size) or image.dtype != np.uint8:
        raise ValueError(f"the trial needs uint8 images of shape (4, {size}, {size}), got {image.dtype} {image.shape[1:]}")
