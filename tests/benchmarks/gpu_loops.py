"""The loops that `gpu.py` times. Each trains so many steps and returns the seconds that they took."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from input_pipeline import PngDataset
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from hpa_search.config import TrialConfig
from hpa_search.data.packed import PackedImages
from hpa_search.models.build import Network, build_network
from hpa_search.training.class_weights import class_weights
from hpa_search.training.device import Device, set_repeatable
from hpa_search.training.learner import Learner
from hpa_search.training.losses import Loss, build_loss
from hpa_search.training.memory import MicroBatch
from hpa_search.training.ranks import ALONE
from hpa_search.training.score import Scorer
from hpa_search.training.stages import stage_of
from hpa_search.training.trainer import Trainer
from hpa_search.training.trial_data import TrialData

MEAN, STD = [0.08, 0.05, 0.05, 0.08], [0.12, 0.09, 0.12, 0.12]
Loop = Callable[[int], float]
"""Trains so many steps and returns the seconds."""


@dataclass(frozen=True)
class Task:
    """What is trained: a configuration on ``device``, on the packed ``images`` with their ``labels`` (n, 28)."""

    config: TrialConfig
    device: Device
    images: PackedImages
    labels: np.ndarray

    @property
    def loss(self) -> Loss:
        return build_loss(self.config, class_weights(self.config, self.labels, None), self.device.device)

    def network(self) -> Network:
        torch.manual_seed(0)
        return build_network(self.config, MEAN, STD)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the first batch, on the device."""
        rows = np.arange(self.config.batch_size) % len(self.images)
        there = self.device.device
        return torch.from_numpy(self.images.gather(rows)).to(there), torch.from_numpy(self.labels[rows]).float().to(there)


def wait(device: Device) -> None:
    if device.device.type == "cuda":
        torch.cuda.synchronize()


def timed(device: Device, step: Callable[[], object]) -> Loop:
    """Return the loop that calls ``step``."""

    def loop(steps: int) -> float:
        wait(device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait(device)
        return time.perf_counter() - began

    return loop


def full_loop(task: Task, folder: Path) -> Loop:
    """Return the trainer's own loop: input, augmentation and step. An epoch has as many steps as are asked for."""
    count = len(task.images)
    data = TrialData(task.images, task.labels, np.arange(count - 8), np.arange(count - 8, count), np.array(MEAN), np.array(STD))

    def loop(steps: int) -> float:
        config = task.config.model_copy(update={"steps_per_epoch": steps})
        if steps not in trainers:
            judge = Scorer(np.ones(28, bool))
            trainers[steps] = Trainer(config, data, epochs=1000, seed=0, folder=folder, judge=judge, device=task.device)
        trainer = trainers[steps]
        stage = stage_of(config, 1, 1000)
        wait(task.device)
        began = time.perf_counter()
        images = trainer._train(1, stage, task.loss).images
        wait(task.device)
        return (time.perf_counter() - began) * steps * config.batch_size / images

    trainers: dict[int, Trainer] = {}
    return loop


def eager_step(task: Task, *, compiled: bool = False) -> Loop:
    """Return the learner's update on one batch in the device's memory."""
    network = task.network()
    if compiled:
        network.compile()
    learner = Learner(network, task.config, task.device, ALONE, MicroBatch(task.config.batch_size, lambda before, after: None))
    learner.begin_epoch("none")
    (images, labels), loss = task.batch(), task.loss
    return timed(task.device, lambda: learner.update(images, labels, len(images), 1e-4, loss))


def graphed_step(task: Task) -> Loop:
    """Return an update by AdamW, recorded once as a CUDA graph: no launches by the host."""
    network = task.device.place(task.network())
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True, capturable=True)
    (images, labels), loss_of = task.batch(), task.loss

    def step() -> None:
        with task.device.autocast():
            logits = network(images)
        loss = loss_of(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a loader's thread may pin memory meanwhile
        step()
    recorded = step, network, optimizer, images, labels, loss_of  # the graph holds no reference to what it works on

    def replay() -> None:
        assert recorded
        graph.replay()

    return timed(task.device, replay)


def usual_loop(task: Task, folder: Path, ids: Sequence[str], workers: int) -> Loop:
    """Return the loop of most published code: PNG files, DataLoader, flips for each image, AdamW, autocast, channels first."""
    dataset = _Augmented(PngDataset(folder, list(ids), task.images.size), task.labels)
    device = replace(task.device, channels_last=False)
    network = device.place(task.network())
    optimizer, loss_of = torch.optim.AdamW(network.parameters(), lr=1e-4), task.loss
    loader = DataLoader(
        dataset,
        task.config.batch_size,
        # An epoch without end: a short one would start the workers' pipeline anew each few steps.
        sampler=RandomSampler(dataset, replacement=True, num_samples=10**7),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.device.type == "cuda",
    )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    coming = batches()

    def step() -> None:
        images, labels = (part.to(device.device, non_blocking=True) for part in next(coming))
        with device.autocast():
            logits = network(images)
        loss = loss_of(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    loop = timed(device, step)

    def after_what_lies_ready(steps: int) -> float:
        loop(2 * workers)  # what the workers fetched while other loops ran
        return loop(steps)

    return after_what_lies_ready


class _Augmented(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Flips and turns each image by itself. Images stay uint8, which the network takes."""

    def __init__(self, images: PngDataset, labels: np.ndarray) -> None:
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        image, draws = self._images[row], np.random.randint(0, 2, 3)
        if draws[0]:
            image = image.flip(-1)
        if draws[1]:
            image = image.flip(-2)
        if draws[2]:
            image = image.transpose(-1, -2)
        return image.contiguous(), torch.from_numpy(self._labels[row]).float()


@contextmanager
def autotuned() -> Iterator[None]:
    """Let cuDNN time its kernels and take the fastest, whether they repeat or not."""
    set_repeatable(False)
    try:
        yield
    finally:
        set_repeatable(True)
