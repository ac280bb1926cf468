"""The checks of `gpu.py`: small trials on a device do what they do on the CPU. Each check raises AssertionError, or returns a remark."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from hpa_search.config import TrialConfig
from hpa_search.data.augment import AUGMENTATIONS, augment, random_crops
from hpa_search.data.loader import Batches, split_rows
from hpa_search.training import trainer as trainer_module
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.device import Device
from hpa_search.training.losses import LOSSES
from hpa_search.training.memory import MEMORY
from hpa_search.training.optim import OPTIMIZERS
from hpa_search.training.stages import stage_of
from hpa_search.training.trainer import Trainer
from tests.training.trial import CONFIG, EPOCHS, finish, make_data, make_trainer, same_results

CPU = Device(torch.device("cpu"), torch.float32, False, "to compare with")
SETTINGS = [
    *({"augment": name} for name in AUGMENTATIONS),
    *({"loss": name} for name in LOSSES),
    *({"optimizer": name, "ema": 0.9, "clip_norm": 1.0} for name in OPTIMIZERS),
    {"resolution": "crop", "full_size": 32, "crop_size": 32},
    {"resolution": "gap", "full_size": 32, "head": "avg_max", "class_weights": "1-f"},
    {"resolution": "extra_blocks", "full_size": 32, "freeze": "head", "normalise": "image"},
]


def configured(settings: dict[str, object]) -> TrialConfig:
    return CONFIG.model_validate({**CONFIG.model_dump(exclude_none=True), "dropout": 0.0, **settings})


def settings_train_alike(device: Device, folder: Path) -> str:
    """Train an epoch of each setting here and on the CPU. Rounding alone may differ."""
    worst, of = 0.0, ""
    for index, settings in enumerate(SETTINGS):
        config = configured(settings)
        here = make_trainer(folder / f"here{index}", config, device=device).run_epoch()
        there = make_trainer(folder / f"there{index}", config, device=CPU).run_epoch()
        apart = abs(here["train_loss"] / there["train_loss"] - 1)
        assert apart < 0.05, f"{settings}: training loss {here['train_loss']} here, {there['train_loss']} on the CPU"
        if apart >= worst:
            worst, of = apart, str(settings)
    return f"{len(SETTINGS)} settings; their losses differ from the CPU's by {worst:.2%} at most ({of})"


def no_hidden_wait(device: Device, folder: Path) -> str:
    """Train an epoch while CUDA raises at each wait of the host for the device, but for the check of the losses."""
    if device.device.type != "cuda":
        return "nothing to check on a CPU"
    for settings in SETTINGS:
        config = configured(settings)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            trial = make_trainer(Path(place), config, device=device)
            stage = stage_of(config, 1, EPOCHS)
            loss = trial._loss(stage.config)
            trial._train(1, stage, loss)  # the first step of all chooses kernels
            with _waits_raise():
                trial._train(2, stage, loss)
    return f"{len(SETTINGS)} settings"


@contextmanager
def _waits_raise() -> Iterator[None]:
    meant = trainer_module._require_finite

    def allowed(*arguments: object, **named: object) -> object:
        torch.cuda.set_sync_debug_mode("default")
        try:
            return meant(*arguments, **named)  # type: ignore[arg-type]
        finally:
            torch.cuda.set_sync_debug_mode("error")

    trainer_module._require_finite = allowed  # type: ignore[assignment]
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
        trainer_module._require_finite = meant


def resumes_to_the_same_bits(device: Device, folder: Path) -> str:
    """Train a trial in one go, and another that is opened anew after each epoch."""
    finish(make_trainer(folder / "whole", device=device))
    for _ in range(EPOCHS):
        trial = make_trainer(folder / "parts", device=device)
        trial.run_epoch()
        trial.close()
    if same_results(folder / "whole", folder / "parts"):
        return "the same bits"
    one, other = (read_logits(folder / name)[EPOCHS].astype(float) for name in ("whole", "parts"))
    raise AssertionError(f"the last epoch's logits differ by {np.abs(one - other).max()}")


def halves_when_memory_runs_out(device: Device, folder: Path) -> str:
    """Train with less memory than a batch needs."""
    if device.device.type != "cuda":
        return "nothing to check on a CPU"
    config = configured({"backbone": "resnet18", "small_size": 64, "batch_size": 512, "learning_rate": 1e-4})
    data = make_data(rows=1100, size=64)

    def train(name: str) -> Trainer:
        trial = make_trainer(folder / name, config, data=data, device=device)
        trial.run_epoch()
        return trial

    torch.cuda.reset_peak_memory_stats()
    loss = train("enough").history[0]["train_loss"]
    peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    gc.collect()  # a trainer is in a cycle
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * peak / total)
    try:
        short = train("short").history[0]["train_loss"]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    noted = (folder / "short" / MEMORY).read_text().strip()
    assert abs(short / loss - 1) < 0.05, f"training loss {short} in parts, {loss} at once"
    return noted.replace("\n", "; ")


def batches_and_augmentations_are_the_cpus(device: Device, folder: Path) -> str:
    """Compare pixels, bit for bit where no interpolation is."""
    data = make_data()
    parts = split_rows(data.train, 16, training=True)
    for here, there in zip(
        Batches(data.images, data.labels, parts, device.device), Batches(data.images, data.labels, parts), strict=True
    ):
        assert torch.equal(here.images.cpu(), there.images) and torch.equal(here.labels.cpu(), there.labels)
        for name in AUGMENTATIONS:
            one, other = (augment(batch.images, name, torch.Generator().manual_seed(1)).cpu() for batch in (here, there))
            apart = int((one.int() - other.int()).abs().max())
            assert apart <= (2 if name == "strong" else 0), f"{name}: pixels differ by {apart}"
        one, other = (random_crops(batch.images, 24, torch.Generator().manual_seed(1)).cpu() for batch in (here, there))
        assert torch.equal(one, other)
    return f"{len(parts)} batches"


CHECKS: dict[str, Callable[[Device, Path], str]] = {
    "settings train as on the CPU": settings_train_alike,
    "no hidden wait for the device": no_hidden_wait,
    "a stopped trial resumes to the same bits": resumes_to_the_same_bits,
    "memory that runs out": halves_when_memory_runs_out,
    "batches and augmentations as on the CPU": batches_and_augmentations_are_the_cpus,
}
