"""Trials that run out of memory: a real forward or backward pass raises where it is given more images than a limit."""

import logging
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from hpa_search.config import TrialConfig
from hpa_search.models.build import Network
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.memory import MEMORY
from tests.training.trial import CONFIG, EPOCHS, finish, make_trainer, same_results, timeless

pytestmark = pytest.mark.long

SETTINGS = {
    **{"backbone": "test_convnext", "small_size": 32, "batch_size": 16, "channels": "rgby"},
    **{"optimizer": "sgd", "learning_rate": 0.05, "clip_norm": 1.0},
}
NO_BATCH_NORM = TrialConfig(**SETTINGS)
"""Its rows do not depend on each other, and its steps not on the size of tiny gradients."""


@contextmanager
def memory_for(images, *, training=True, backward=False, starting_with=0):
    """Let any network fail that has more than so many images at a time, from its forward pass number ``starting_with`` on."""
    passes = [0]

    def hook(module, inputs, logits):
        if not isinstance(module, Network) or module.training != training:
            return
        passes[0] += 1
        if len(logits) > images and passes[0] > starting_with:
            if not backward:
                raise torch.OutOfMemoryError("CUDA out of memory")
            if logits.requires_grad:
                logits.register_hook(no_room)

    handle = torch.nn.modules.module.register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def no_room(gradient):
    raise torch.OutOfMemoryError("CUDA out of memory")


def assert_alike(history, expected):
    for row, wanted in zip(timeless(history), timeless(expected), strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)


@pytest.fixture(scope="module")
def never_ran_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return finish(make_trainer(folder, NO_BATCH_NORM)).history


@pytest.mark.parametrize(("images", "starting_with", "backward"), [(8, 4, False), (1, 0, False), (5, 4, True)])
def test_running_out_of_memory_does_not_change_the_results(tmp_path, never_ran_out, images, starting_with, backward):
    with memory_for(images, backward=backward, starting_with=starting_with):
        trainer = finish(make_trainer(tmp_path, NO_BATCH_NORM))
    assert_alike(trainer.history, never_ran_out)
    assert (tmp_path / MEMORY).exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "soft_f1"},
        {"ema": 0.9, "optimizer": "adamw", "learning_rate": 1e-3, "augment": "strong"},
        {"freeze": "head", "freeze_epochs": 2, "last_epochs": 1},
        {"resolution": "crop", "full_size": 32, "crop_size": 32},
    ],
)
def test_nor_does_it_with_other_losses_and_settings(tmp_path, settings):
    config = TrialConfig(**{**SETTINGS, **settings})
    whole = finish(make_trainer(tmp_path / "whole", config))
    with memory_for(6):
        trainer = finish(make_trainer(tmp_path / "parts", config))
    for row, wanted in zip(timeless(trainer.history), timeless(whole.history), strict=True):
        # Adam's step is about as long for a tiny gradient as for a large one, and then rounding shows.
        assert row == pytest.approx(wanted, abs=1e-5 if config.optimizer == "sgd" else 1e-3)


def test_with_batch_norm_and_dropout_it_still_learns(tmp_path):
    config = CONFIG.model_copy(update={"learning_rate": 3e-3, "schedule": "constant"})
    with memory_for(5):
        history = finish(make_trainer(tmp_path, config)).history
    losses = [row["train_loss"] for row in history] + [row["validation_loss"] for row in history]
    assert np.isfinite(losses).all()
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_it_is_noted_in_the_trial_and_in_the_log(tmp_path, caplog):
    trainer = make_trainer(tmp_path, NO_BATCH_NORM)
    with caplog.at_level(logging.WARNING), memory_for(4, starting_with=4):
        finish(trainer)
    assert (tmp_path / MEMORY).read_text().splitlines() == [
        "epoch 2: out of memory with 16 images at a time; 8 at a time from now on",
        "epoch 2: out of memory with 8 images at a time; 4 at a time from now on",
    ]
    assert "the effective batch stays 16" in caplog.text


def test_a_resumed_trial_starts_with_what_fitted_and_ends_the_same(tmp_path):
    with memory_for(5):
        finish(make_trainer(tmp_path / "whole"))
        for _ in range(EPOCHS):
            make_trainer(tmp_path / "parts").run_epoch()
    assert same_results(tmp_path / "whole", tmp_path / "parts")
    assert len((tmp_path / "parts" / MEMORY).read_text().splitlines()) == 2  # those of the first epoch


def test_a_trial_that_never_ran_out_notes_nothing(tmp_path):
    make_trainer(tmp_path).run_epoch()
    assert not (tmp_path / MEMORY).exists()
    assert "micro_batch" not in torch.load(tmp_path / "checkpoint.pt", weights_only=True)


def test_validation_that_does_not_fit_is_cut_as_well(tmp_path, never_ran_out):
    with memory_for(3, training=False):
        trainer = finish(make_trainer(tmp_path, NO_BATCH_NORM))
    assert_alike(trainer.history, never_ran_out)
    assert "micro_batch" not in torch.load(tmp_path / "checkpoint.pt", weights_only=True)  # training had room
    assert read_logits(tmp_path)[EPOCHS].shape == (32, 28)


def test_a_trial_fails_if_not_even_one_image_fits(tmp_path):
    with memory_for(0), pytest.raises(torch.OutOfMemoryError):
        make_trainer(tmp_path, NO_BATCH_NORM).run_epoch()
    assert not (tmp_path / "checkpoint.pt").exists()
