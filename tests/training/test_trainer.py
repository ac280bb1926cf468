"""One trial from the first epoch to the last.

Run as a program, this file trains the trial of the tests in folders inside the one it is given, and is killed again
and again in two of them.
"""

import dataclasses
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hpa_search.config import TrialConfig
from hpa_search.data.statistics import channel_statistics
from hpa_search.errors import UserError
from hpa_search.scoring.metrics import macro_average_precision, macro_f1
from hpa_search.scoring.rules import cross_fitted
from hpa_search.training.checkpoint import TakenOverError, read_logits, weights_path
from hpa_search.training.score import Judge
from hpa_search.training.trainer import DivergedError, Trainer
from hpa_search.training.trial_data import TrialData

CONFIG = TrialConfig(
    backbone="test_resnet", small_size=32, full_size=64, batch_size=16, channels="rgby", dropout=0.2, learning_rate=3e-3
)
EPOCHS = 4
SIZE = 32
CLASSES = np.arange(28) < 4
TIMES = ("seconds", "images_per_second")


class ArrayImages:
    def __init__(self, array):
        self.array = array

    def gather(self, rows):
        return self.array[rows]


def make_data(rows=81, size=SIZE) -> TrialData:
    """Noise in which class k of 4 brightens channel k; 49 training rows, so that the last batch of 16 has one row."""
    generator = np.random.default_rng(0)
    labels = np.zeros((rows, 28), dtype=bool)
    labels[:, :4] = generator.random((rows, 4)) < 0.4
    array = generator.integers(0, 120, (rows, 4, size, size)) + 100 * labels[:, :4, None, None]
    images = ArrayImages(array.astype(np.uint8))
    train, validation = np.arange(rows - 32), np.arange(rows - 32, rows)
    mean, std = channel_statistics(images, train)
    return TrialData(images, labels, train, validation, mean, std)


def make_trainer(folder, config=CONFIG, **settings) -> Trainer:
    chosen = {"data": make_data(), "epochs": EPOCHS, "seed": 7, "judge": Judge(CLASSES), **settings}
    return Trainer(config, chosen.pop("data"), folder=Path(folder), **chosen)


def finish(trainer):
    while trainer.epoch < EPOCHS:
        trainer.run_epoch()
    return trainer


def timeless(history):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in history]


def same_results(one: Path, other: Path) -> bool:
    """Tell whether the folders of two trials hold the same bits."""
    if sorted(path.name for path in one.rglob("*")) != sorted(path.name for path in other.rglob("*")):
        return False
    first, second = (safetensors.torch.load_file(weights_path(folder, EPOCHS)) for folder in (one, other))
    logits = read_logits(one), read_logits(other)
    return all(torch.equal(first[name], second[name]) for name in first) and all(
        np.array_equal(logits[0][epoch], logits[1][epoch]) for epoch in range(1, EPOCHS + 1)
    )


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A trial that nobody stopped, in its folder, with its history."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, finish(make_trainer(folder)).history


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


def test_a_file_system_that_tells_other_times_takes_nobody_for_a_successor(tmp_path):
    trainer = make_trainer(tmp_path)
    for epoch in (1, 2, 3):
        trainer.run_epoch()
        os.utime(tmp_path / "checkpoint.pt", (epoch, epoch))
    assert trainer.epoch == 3


def test_learns_what_there_is_to_learn(tmp_path):
    config = CONFIG.model_copy(update={"schedule": "constant", "dropout": 0.0})
    trainer = make_trainer(tmp_path, config, epochs=12)
    history = [trainer.run_epoch() for _ in range(12)]
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    assert history[-1]["macro_ap"] > 0.9


def test_metrics_are_complete_and_can_be_computed_again_from_the_logits(whole_run):
    folder, history = whole_run
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert set(history[0]) == {
        *("epoch", "train_loss", "validation_loss", "macro_ap", "macro_f1_at_half", "macro_f1", "sample_f1"),
        *("objective", "seconds", "learning_rate", "images_per_second"),
    }
    data = make_data()
    labels = data.labels[data.validation]
    for epoch, logits in read_logits(folder).items():
        assert history[epoch - 1]["macro_ap"] == macro_average_precision(logits.astype(np.float32), labels, classes=CLASSES)
        assert history[epoch - 1]["macro_f1_at_half"] == macro_f1(logits > 0, labels)
        assert history[epoch - 1]["objective"] == history[epoch - 1]["macro_ap"]


def test_stored_weights_give_the_stored_logits(whole_run):
    folder, _ = whole_run
    trainer, data = make_trainer(folder), make_data()
    network = trainer.network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(data.images.gather(data.validation)))
    np.testing.assert_allclose(logits.numpy(), read_logits(folder)[EPOCHS].astype(np.float32), atol=5e-3)


@pytest.mark.parametrize(("count", "folds"), [(8, 5), (3, 3), (1, 5)])
def test_thresholds_are_fitted_on_other_groups(tmp_path, count, folds):
    groups = np.array([f"g{row % count}" for row in range(81)])
    data = dataclasses.replace(make_data(), groups=groups)
    row = finish(make_trainer(tmp_path, data=data)).history[-1]
    labels, logits = data.labels[data.validation], read_logits(tmp_path)[EPOCHS].astype(np.float32)
    held_together = None if count == 1 else groups[data.validation]
    found, kept_together = data.folding()
    assert found == folds and np.array_equal(kept_together, held_together)
    assert row["macro_f1"] == macro_f1(cross_fitted(logits, labels, folds=folds, groups=held_together), labels)
    # Where folds are as many as groups, rows that are torn apart have another score.
    assert count != 3 or row["macro_f1"] != macro_f1(cross_fitted(logits, labels, folds=folds), labels)


def test_objective_can_be_macro_f1(tmp_path):
    row = make_trainer(tmp_path, judge=Judge(CLASSES, "macro_f1")).run_epoch()
    assert row["objective"] == row["macro_f1"]


def test_repeats_from_its_seed_whatever_ran_before(whole_run, tmp_path):
    folder, history = whole_run
    torch.manual_seed(123)
    np.random.seed(123)
    again = finish(make_trainer(tmp_path / "again"))
    assert timeless(again.history) == timeless(history)
    assert same_results(folder, tmp_path / "again")
    other = make_trainer(tmp_path / "other", seed=8).run_epoch()
    assert other["train_loss"] != history[0]["train_loss"]


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
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    renames, instants = map(int, done.stdout.split())
    assert renames == 10
    assert instants >= 1
    for stopped in ("first", "renames", "instants"):
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


def test_more_epochs_than_the_top_rung_are_refused(whole_run):
    with pytest.raises(RuntimeError, match="all 4 epochs"):
        make_trainer(whole_run[0]).run_epoch()


@pytest.mark.parametrize("change", [{"seed": 8}, {"config": CONFIG.model_copy(update={"learning_rate": 0.5})}])
def test_the_folder_of_another_trial_is_refused(whole_run, change):
    with pytest.raises(UserError, match="another configuration or seed"):
        make_trainer(whole_run[0], **change)


def test_divergence_is_reported_with_its_place_and_saves_nothing(tmp_path):
    config = CONFIG.model_copy(update={"learning_rate": 1.0, "schedule": "constant"})
    trainer = make_trainer(tmp_path, config)
    with torch.no_grad():
        trainer.network.head.classifier.weight.fill_(torch.inf)
    with pytest.raises(DivergedError, match="epoch 1 at step 1") as raised:
        trainer.run_epoch()
    assert (raised.value.epoch, raised.value.step) == (1, 1)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert trainer.epoch == 0


def test_divergence_travels_between_processes():
    error = pickle.loads(pickle.dumps(DivergedError(3, 5)))
    assert (error.epoch, error.step) == (3, 5)
    assert "epoch 3 at step 5" in str(error)


def test_close_frees_the_network(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.run_epoch()
    network = weakref.ref(trainer.network)
    trainer.close()
    trainer.close()
    gc.collect()
    assert network() is None


def test_images_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(4, 32, 32\)"):
        make_trainer(tmp_path, data=make_data(size=16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((81, 27), dtype=bool)}, "bool"),
        ({"labels": np.zeros((81, 28))}, "bool"),
        ({"train": np.arange(1)}, "at least 2"),
        ({"validation": np.arange(60, 64)}, "at least 2 and 5"),
        ({"validation": np.arange(40, 60)}, "share rows"),
        ({"groups": np.array(["g"] * 32)}, "groups must be one a row"),
    ],
)
def test_data_that_does_not_fit_together_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_data(), **change)


def stopped_at_renames(folder: str) -> int:
    """Train the trial in processes that die just before and just after each rename of a file; return the stops.

    An epoch renames four files, and a start that resumes renames one.
    """
    deaths = [(rename, before) for rename in range(1, 6) for before in (True, False)]
    return sum(_child_stopped(folder, rename=rename, before=before) for rename, before in deaths)


def stopped_at_instants(folder: str, duration: float, tries: int = 6) -> int:
    """Train the trial in processes that die at random instants of its ``duration`` in seconds; return the stops."""
    draw = random.Random(0)
    return sum(_child_stopped(folder, after=draw.uniform(0.1, 0.8) * duration) for _ in range(tries))


def seconds_of_a_whole_run(folder: str) -> float:
    started = time.perf_counter()
    assert not _child_stopped(folder)
    return time.perf_counter() - started


def _child_stopped(folder: str, *, rename: int = 0, before: bool = False, after: float = 60.0) -> bool:
    """Let a child train until it is done or stopped; tell whether it was stopped."""
    child = os.fork()
    if child == 0:
        if rename:
            _die_at_rename(rename, before)
        try:
            finish(make_trainer(folder))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(3)
        os._exit(0)
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _was_killed(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return _was_killed(os.waitpid(child, 0)[1])


def _was_killed(status: int) -> bool:
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit("the trial failed by itself")
    return False


def _die_at_rename(number: int, before: bool) -> None:
    """Make this process kill itself just before or after its rename of that number."""
    replace, seen = os.replace, [0]

    def replace_and_die(source, target):
        seen[0] += 1
        if seen[0] == number and before:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_die


if __name__ == "__main__":
    # This process never computes anything with torch itself, so that its children may be forked.
    parent = Path(sys.argv[1])
    # The first child is slower than any later one.
    whole_seconds = min(seconds_of_a_whole_run(str(parent / name)) for name in ("first", "second"))
    print(stopped_at_renames(str(parent / "renames")), stopped_at_instants(str(parent / "instants"), whole_seconds))
    assert not _child_stopped(str(parent / "renames"))
    assert not _child_stopped(str(parent / "instants"))
