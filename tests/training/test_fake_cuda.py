"""A trial's steps on a fake CUDA device: nothing mixes devices, and the host waits for the device only where it is meant to."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from hpa_search.data.augment import AUGMENTATIONS
from hpa_search.data.loader import split_rows
from hpa_search.models.symmetries import Symmetric
from hpa_search.training import learner, trainer
from hpa_search.training.gradients import predict
from hpa_search.training.losses import LOSSES
from hpa_search.training.memory import MicroBatch
from hpa_search.training.optim import OPTIMIZERS
from hpa_search.training.stages import stage_of
from tests.training.fake_cuda import HostWaitsError, fake_cuda, no_waiting
from tests.training.trial import CONFIG, EPOCHS, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Return a function that makes a trial on the fake device; and the numbers of losses that the host asked for at a time."""
    waits = []

    def finite(losses, *where, **named):
        assert all(loss.is_cuda for loss in losses)
        waits.append(len(losses))
        return np.zeros(len(losses))

    monkeypatch.setattr(trainer, "_require_finite", finite)
    with fake_cuda(monkeypatch) as device:

        def make(**settings):
            config = CONFIG.model_validate({**CONFIG.model_dump(exclude_none=True), **settings})
            return make_trainer(tmp_path, config, device=device)

        yield make, waits


def train_an_epoch(trial, loss=None):
    stage = stage_of(trial.config, 1, EPOCHS)
    loss = loss or trial._loss(stage.config)
    with no_waiting(pytest.MonkeyPatch()):
        return trial._train(1, stage, loss)


SETTINGS = [
    *({"augment": name} for name in AUGMENTATIONS),
    *({"loss": name} for name in LOSSES),
    *({"optimizer": name, "ema": 0.9, "clip_norm": 1.0} for name in OPTIMIZERS),
    {"resolution": "crop", "full_size": 32, "crop_size": 32},
    {"resolution": "extra_blocks", "full_size": 32},
    {"resolution": "gap", "full_size": 32, "head": "avg_max", "class_weights": "1-f"},
    {"freeze": "head", "channels": "rgb", "normalise": "image"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_an_epochs_steps_wait_for_the_device_once(opened, settings):
    make, waits = opened
    assert train_an_epoch(make(**settings)).images == 48 and waits == [3]


@pytest.mark.parametrize("tta", ["none", "mean", "max"])
def test_prediction_never_waits_for_the_device(opened, tta):
    trial = opened[0]()
    network = trial.network.eval() if tta == "none" else Symmetric(trial.network, tta).eval()
    batches = trial._batches(split_rows(trial._data.validation, 16, training=False))
    with no_waiting(pytest.MonkeyPatch()):
        logits = torch.cat([predict(network, batch.images, trial._device, MicroBatch(16, print)) for batch in batches])
    assert logits.is_cuda and logits.shape == (32, 28) and logits.dtype == torch.float32


def test_networks_compute_in_the_devices_type_and_layout(opened):
    trial = opened[0]()
    seen = []
    for module in trial.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
    train_an_epoch(trial)
    assert set(seen) == {torch.bfloat16}
    kernels = [weight for weight in trial.network.parameters() if weight.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_a_wait_that_is_not_meant_is_found(opened, monkeypatch):
    trial = opened[0]()
    monkeypatch.setattr(
        learner, "set_learning_rate", lambda optimizer, rate: float(next(trial.network.parameters()).detach().sum())
    )
    with pytest.raises(DataDependentOutputException):
        train_an_epoch(trial)


def test_two_devices_in_one_step_are_found(opened, monkeypatch):
    trial = opened[0]()
    loss = trial._loss(trial.config)
    on_the_host = torch.ones(16, 28)
    with pytest.raises(RuntimeError, match="device"):
        train_an_epoch(trial, lambda logits, labels: loss(logits, on_the_host))


@pytest.mark.parametrize(
    "copied", [lambda logits: logits.cpu(), lambda logits: logits.to("cpu"), lambda logits: torch.ones(1).to("cuda")]
)
def test_a_copy_that_the_host_waits_for_is_found(opened, copied):
    trial = opened[0]()
    loss = trial._loss(trial.config)
    with pytest.raises(HostWaitsError):
        train_an_epoch(trial, lambda logits, labels: (copied(logits), loss(logits, labels))[1])
