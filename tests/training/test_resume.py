"""A stopped trial resumes and ends as if it had not been stopped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.training.checkpoint import TakenOverError
from tests.training.trial import CONFIG, EPOCHS, finish, make_trainer, same_results, timeless

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "bce", "augment": "none", "class_weights": "ln", "optimizer": "adam"},
        {"loss": "focal", "augment": "flips", "class_weights": "effective", "optimizer": "sgd", "schedule": "plateau", "schedule_epochs": 1},
        {"ema": 0.9, "augment": "strong", "sampling": "sqrt", "schedule": "one_cycle", "clip_norm": 0.1},
        {"freeze": "stem_and_head", "freeze_epochs": 2, "last_epochs": 1, "last_freeze": "head", "steps_per_epoch": 2},
        {"resolution": "crop", "full_size": 32, "crop_size": 32, "loss": "asymmetric", "optimizer": "adamax"},
    ],
)  # fmt: skip
def test_resumed_after_every_epoch_it_ends_the_same(tmp_path, settings):
    config = TrialConfig(**{**CONFIG.model_dump(), **settings})
    whole = finish(make_trainer(tmp_path / "whole", config))
    for epoch in range(1, EPOCHS + 1):
        trainer = make_trainer(tmp_path / "parts", config)
        assert trainer.epoch == epoch - 1
        trainer.run_epoch()
        trainer.close()
    assert timeless(trainer.history) == timeless(whole.history)
    assert same_results(tmp_path / "whole", tmp_path / "parts")


def test_stopped_at_any_instant_it_ends_the_same(whole_run, tmp_path):
    folder, history = whole_run
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    program = [sys.executable, "-m", "tests.training.stopped_trial", str(tmp_path)]
    done = subprocess.run(program, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    renames, instants = map(int, done.stdout.split())
    assert renames == 10
    assert instants == 4
    for stopped in ("whole", "renames", "instants"):
        assert same_results(folder, tmp_path / stopped)
        assert timeless(make_trainer(tmp_path / stopped).history) == timeless(history)


def test_a_damaged_checkpoint_starts_the_trial_again_and_ends_the_same(whole_run, tmp_path):
    folder, history = whole_run
    trainer = make_trainer(tmp_path / "damaged")
    trainer.run_epoch()
    trainer.run_epoch()
    (tmp_path / "damaged" / "checkpoint.pt").write_bytes(b"torn")
    restarted = make_trainer(tmp_path / "damaged")
    assert restarted.epoch == 0
    assert timeless(finish(restarted).history) == timeless(history)
    assert same_results(folder, tmp_path / "damaged")


def test_the_top_rung_may_be_raised(whole_run):
    folder, history = whole_run
    longer = make_trainer(folder, epochs=EPOCHS + 2)
    assert longer.epoch == EPOCHS
    assert longer.history == history


def test_a_worker_that_was_given_up_for_dead_does_not_write_over_its_successor(tmp_path, whole_run):
    lost = make_trainer(tmp_path)
    lost.run_epoch()
    successor = make_trainer(tmp_path)
    successor.run_epoch()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(TakenOverError, match="checkpoint.pt was written by another worker"):
        lost.run_epoch()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    finish(successor)
    assert same_results(tmp_path, whole_run[0])


def test_other_file_times_alone_do_not_mean_a_successor(tmp_path):
    trainer = make_trainer(tmp_path)
    for epoch in (1, 2, 3):
        trainer.run_epoch()
        os.utime(tmp_path / "checkpoint.pt", (epoch, epoch))
    assert trainer.epoch == 3


@pytest.mark.parametrize("change", [{"seed": 8}, {"config": CONFIG.model_copy(update={"learning_rate": 0.5})}])
def test_the_folder_of_another_trial_is_refused(whole_run, change):
    with pytest.raises(UserError, match="another configuration or seed"):
        make_trainer(whole_run[0], **change)
