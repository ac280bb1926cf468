"""One trial: a configuration trained epoch by epoch, scored on the validation rows, and saved after each epoch.

An ordinary PyTorch program: it knows neither a cluster nor other trials.
"""

import gc
import logging
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
from hpa_search.data.augment import Share, augment, random_crops
from hpa_search.data.loader import Batches, split_rows
from hpa_search.data.sampling import epoch_rows, frequencies_csv
from hpa_search.errors import UserError
from hpa_search.files import write_text
from hpa_search.models.build import Network, build_network, set_prior
from hpa_search.models.weights import load_pretrained
from hpa_search.training.check import check_trial
from hpa_search.training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    Logits,
    TakenOverError,
    checkpoint_stamp,
    load_checkpoint,
    save_checkpoint,
)
from hpa_search.training.class_weights import class_weights
from hpa_search.training.device import Device, choose_device
from hpa_search.training.gradients import predict
from hpa_search.training.learner import Learner
from hpa_search.training.losses import Loss, build_loss
from hpa_search.training.memory import MicroBatch, note
from hpa_search.training.optim import learning_rate
from hpa_search.training.ranks import ALONE, Ranks
from hpa_search.training.score import Metrics, Scorer
from hpa_search.training.stages import Stage, stage_of
from hpa_search.training.trial_data import TrialData

logger = logging.getLogger(__name__)

CHECK_EVERY = 50
"""Steps between checks of the loss. Each check makes the host wait for the device."""

_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


class DivergedError(Exception):
    """The loss is not finite. ``step`` counts from 1 within ``epoch``, and is 0 on the validation rows."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(epoch, step)
        self.epoch = epoch
        self.step = step

    def __str__(self) -> str:
        where = f"at step {self.step}" if self.step else "on the validation rows"
        return f"the loss is not finite in epoch {self.epoch} {where}; lower the learning rate"


class Trainer:
    """Trains one trial, an epoch at a time. It resumes from ``folder`` if the trial stopped there.

    ``epochs`` are those of the top rung, over which the learning rate is laid out. ``judge`` scores each epoch. Every random
    draw comes from ``seed``. Raises UserError if ``folder`` holds another configuration or seed, or if pretrained weights
    are not available. Raises ValueError for images of a wrong size or an unusable configuration.

    Several ``ranks`` that train the trial together all do all of this, each with its share of the rows. The first one writes
    the files. Their number does not change a trial's results, but for dropout and rounding. If one of them runs out of
    memory, its `run_epoch` raises FewerAtATimeError. All must then start again, with its ``micro_batch``.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: TrialData,
        *,
        epochs: int,
        seed: int,
        folder: Path,
        judge: Scorer,
        device: Device | None = None,
        ranks: Ranks = ALONE,
        micro_batch: int | None = None,
    ) -> None:
        check_trial(config)
        data.check_images(config.input_size)
        self.config = config
        self._data = data
        self._epochs = epochs
        self._seed = seed
        self._folder = folder
        self._judge = judge
        self._device = device or choose_device()
        self._ranks = ranks
        self._history: list[Metrics] = []
        self._logits: Logits = {}
        self._micro_batch = MicroBatch(config.batch_size, self._note_less_memory)
        self._judged_at_once = MicroBatch(config.batch_size, self._note_less_memory)
        checkpoint = self._checkpoint()
        self._start(fresh=checkpoint is None)
        if checkpoint is not None:
            self._resume(checkpoint)
        if micro_batch is not None:
            self._begin_with(micro_batch)
        # A collective of workers in different epochs would hang or mix their results.
        ranks.require_alike("the epochs that its checkpoint holds", self.epoch)

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
        """The network that is scored and kept, on its device: the average if there is one. It is gone after `close`."""
        return self._learner.judged

    def run_epoch(self) -> Metrics:
        """Train one epoch, score it on the validation rows, save it, and return its metrics.

        The metrics are epoch, train_loss, validation_loss, those of `Scorer.score`, learning_rate (of the last step),
        images_per_second (in training), seconds (until all scores are known), data_seconds and evaluate_seconds among them, and
        checkpoint_seconds, which only the returned row has. The losses are the trial's own, not comparable between losses. Raises
        DivergedError if a loss is not finite. Raises TakenOverError if another worker saved an epoch meanwhile. Raises
        RuntimeError if all ``epochs`` are done.
        """
        if self.epoch >= self._epochs:
            raise RuntimeError(f"all {self._epochs} epochs of the trial in {self._folder} are done")
        epoch, started = self.epoch + 1, time.perf_counter()
        stage = stage_of(self.config, epoch, self._epochs)
        loss = self._loss(stage.config)
        # Each epoch has a seed: no generator's state has to survive a stop, and no earlier trial changes the draws.
        torch.manual_seed(_stream(self._seed, epoch, "network", self._ranks.rank))
        done = self._train(epoch, stage, loss)
        trained = time.perf_counter()
        logits = self._predict(self._data.validation)
        metrics: Metrics = {"epoch": epoch, "train_loss": done.loss, **self._score(logits, epoch, loss)}
        scored = time.perf_counter()
        metrics |= {"seconds": scored - started, "data_seconds": done.waited, "evaluate_seconds": scored - trained}
        metrics |= {"learning_rate": done.rate, "images_per_second": done.images / (trained - started)}
        self._history.append(metrics)
        self._logits[epoch] = logits
        if self._ranks.first:
            self._save()
        self._ranks.await_first()  # an epoch counts for all workers once it is saved
        return {**metrics, "checkpoint_seconds": time.perf_counter() - scored}

    def close(self) -> None:
        """Free the network, the optimizer and the device's memory. The trainer cannot be used afterwards."""
        vars(self).pop("_learner", None)
        gc.collect()
        if self._device.device.type == "cuda":
            torch.cuda.empty_cache()

    def _start(self, *, fresh: bool) -> None:
        """Build the network and the optimizer as they are before the first epoch."""
        torch.manual_seed(_stream(self._seed, 0, "network"))
        network = build_network(self.config, self._data.mean.tolist(), self._data.std.tolist())
        set_prior(network, self._data.train_labels.mean(axis=0).tolist())
        if fresh and self.config.weights != "none":
            load_pretrained(network, self.config)
        self._learner = Learner(network, self.config, self._device, self._ranks, self._micro_batch)

    def _loss(self, config: TrialConfig) -> Loss:
        weights = class_weights(config, self._data.train_labels, self._judge.only)
        return build_loss(config, weights, self._device.device)

    def _checkpoint(self) -> Checkpoint | None:
        """Return the usable checkpoint in the folder, or None. Raises UserError if it is another trial's."""
        self._stamp = checkpoint_stamp(self._folder)
        checkpoint = load_checkpoint(self._folder, settle=self._ranks.first)
        if checkpoint is not None and not self._owns(checkpoint.identity):
            raise UserError(f"{self._folder} holds the training of another configuration or seed; choose another --out")
        return checkpoint

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Restore the state that ``checkpoint`` holds."""
        self._learner.load(checkpoint)
        self._history = list(checkpoint.history)
        self._logits = checkpoint.logits
        self._micro_batch.size = checkpoint.micro_batch or self.config.batch_size

    def _begin_with(self, micro_batch: int) -> None:
        """Work on ``micro_batch`` images at a time, after one of the workers had no memory for more."""
        if micro_batch < self._micro_batch.size:
            self._micro_batch.size = micro_batch
            self._note_memory(f"out of memory on one of {self._ranks.world} workers; {micro_batch} images at a time from now on")

    def _save(self) -> None:
        kept, optimizer, trained = self._learner.state()
        size = self._micro_batch.size
        micro_batch = size if size < self.config.batch_size else None
        checkpoint = Checkpoint(self._identity(), self.history, kept, optimizer, self._logits, trained, micro_batch)
        # A stamp may change alone, as on a network file system; only another content is another worker's.
        if checkpoint_stamp(self._folder) != self._stamp and not self._is_last_saved():
            raise TakenOverError(f"{self._folder / CHECKPOINT} was written by another worker, which continues this trial")
        save_checkpoint(self._folder, checkpoint)
        self._stamp = checkpoint_stamp(self._folder)

    def _is_last_saved(self) -> bool:
        """Return whether the checkpoint in the folder is, by its content, the one before this epoch."""
        there = load_checkpoint(self._folder, settle=False)
        return there is not None and list(there.history) == self._history[:-1]

    def _note_less_memory(self, before: int, after: int) -> None:
        """Note in the log and in the trial's folder that fewer images are worked on at a time."""
        self._note_memory(f"out of memory with {before} images at a time; {after} at a time from now on")

    def _note_memory(self, what: str) -> None:
        if self._ranks.first:
            line = f"epoch {self.epoch + 1}: {what}"
            logger.warning("%s, %s; the effective batch stays %s", self._folder, line, self.config.batch_size)
            note(self._folder, line)

    def _identity(self) -> dict[str, Any]:
        return {"config": self.config.model_dump(mode="json"), "seed": self._seed}

    def _owns(self, identity: dict[str, Any]) -> bool:
        """Return whether ``identity`` is this trial's. Settings that it lacks have their defaults."""
        try:
            return TrialConfig.model_validate(identity["config"]) == self.config and identity["seed"] == self._seed
        except (KeyError, ValidationError):
            return False

    def _train(self, epoch: int, stage: Stage, loss: Loss) -> "_Trained":
        """Train once on the epoch's rows."""
        batches = split_rows(self._rows(epoch), self.config.batch_size, training=True)
        generator = torch.Generator().manual_seed(_stream(self._seed, epoch, "augment"))
        losses: list[Tensor] = []
        self._learner.begin_epoch(stage.freeze)
        coming = self._batches([rows[self._ranks.share(len(rows))] for rows in batches])
        for step, own in enumerate(coming):
            rate, rows = self._rate(stage, step, len(batches)), len(batches[step])
            images = self._prepared(own.images, generator, Share(self._ranks.share(rows), rows))
            losses.append(self._learner.update(images, own.labels, rows, rate, loss))
            if len(losses) % CHECK_EVERY == 0:
                _require_finite(losses[-CHECK_EVERY:], epoch, first=len(losses) - CHECK_EVERY)
        values = _require_finite(losses, epoch)
        sizes = [len(rows) for rows in batches]
        return _Trained(float(np.average(values, weights=sizes)), sum(sizes), rate, coming.waited)

    def _rows(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of ``epoch`` in their order. In the first epoch, write the label frequencies of a sampling."""
        train, labels = self._data.train, self._data.train_labels
        known = labels if self._judge.only is None else labels & self._judge.only
        rows = epoch_rows(self.config, train, known, seed=self._seed, epoch=epoch)
        if epoch == 1 and self.config.sampling != "none" and self._ranks.first:
            text = frequencies_csv(labels, self._data.labels[rows])
            logger.info("label frequencies under sampling '%s':\n%s", self.config.sampling, text)
            write_text(self._folder / "sampling.csv", text)
        return rows

    def _prepared(self, images: Tensor, generator: torch.Generator, share: Share) -> Tensor:
        """Return a training batch augmented, and first cut to crops if the trial takes crops."""
        if self.config.crop_size is not None:
            images = random_crops(images, self.config.crop_size, generator, share)
        return augment(images, self.config.augment, generator, share)

    def _rate(self, stage: Stage, step: int, steps_per_epoch: int) -> float:
        done = (stage.epoch - 1) * steps_per_epoch + step
        losses = [row["validation_loss"] for row in self._history]
        return learning_rate(stage.config, done, steps_per_epoch=steps_per_epoch, epochs=stage.epochs, validation_losses=losses)

    def _predict(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the logits (n, 28) of ``rows``, in their order."""
        network = self.network.eval()
        own = rows[self._ranks.share(len(rows))]
        batches = self._batches(split_rows(own, self.config.batch_size, training=False))
        parts = [predict(network, batch.images, self._device, self._judged_at_once) for batch in batches]
        self._match_least_memory()
        logits = self._ranks.gather(torch.cat(parts), len(rows)).clamp(-_LARGEST_FLOAT16, _LARGEST_FLOAT16)
        return logits.cpu().numpy().astype(np.float16)

    def _match_least_memory(self) -> None:
        """Score as few images at a time as the worker with the least memory."""
        least = self._ranks.least(self._judged_at_once.size)
        if least < self._judged_at_once.size:
            self._judged_at_once.size = least
            self._note_memory(f"out of memory on another worker in validation; {least} images at a time from now on")

    def _score(self, stored: NDArray[np.float16], epoch: int, loss_of: Loss) -> Metrics:
        """Return the validation metrics of the logits as they are stored, so that they can be computed again."""
        logits, labels = stored.astype(np.float32), self._data.validation_labels
        on_device = self._device.device
        loss = loss_of(torch.from_numpy(logits).to(on_device), torch.from_numpy(labels).float().to(on_device))
        _require_finite([loss], epoch, first=-1)
        return {"validation_loss": float(loss), **self._judge.score(logits, labels, *self._data.folding())}

    def _batches(self, parts: list[NDArray[np.int64]]) -> Batches:
        return Batches(self._data.images, self._data.labels, parts, self._device.device)


@dataclass(frozen=True)
class _Trained:
    """What an epoch's training came to: the mean loss, the number of images, the last learning rate, the seconds without images."""

    loss: float
    images: int
    rate: float
    waited: float


def _stream(seed: int, epoch: int, use: Literal["network", "augment"], rank: int = 0) -> int:
    """Return a seed for torch that differs for every ``seed``, ``epoch``, ``use`` and ``rank``."""
    words = np.random.SeedSequence([seed, epoch, ("network", "augment").index(use), rank]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _require_finite(losses: list[Tensor], epoch: int, first: int = 0) -> NDArray[np.float64]:
    """Return ``losses`` as numbers.

    Raises DivergedError if one is not finite; its step counts from ``first`` + 1.
    """
    values = torch.stack(losses).double().cpu().numpy()
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise DivergedError(epoch, first + int(broken[0]) + 1)
    return values
