"""Trials that two Ray Train workers train together, against the same trials trained in this process by one."""

import json
import os
import signal
import time

import pandas as pd
import pytest

from hpa_search.phantom.dataset import make_phantom
from hpa_search.training.job import open_trial, trial_folder
from hpa_search.training.memory import MEMORY
from tests.end_to_end.conftest import SearchProcess, check_accounts
from tests.end_to_end.shared_search import prepared

pytestmark = pytest.mark.ray
EPOCHS = 4
LEARNING_RATES = 0.1, 0.03, 0.01
RESTART_SECONDS = 60
"""Within which a group that lost a worker trains again; it takes about ten, and the machine may be busy."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with data and a cache, and the metrics of each trial as one worker trains it."""
    folder = tmp_path_factory.mktemp("ddp")
    make_phantom(folder / "data", images=110, size=32, seed=0, lift=4, test_images=2)
    _, job = prepared(folder / "alone", folder / "cache", folder / "data", workers=1)
    for number, rate in enumerate(LEARNING_RATES):
        trial = open_trial(job, number, {"learning_rate": rate})
        for _ in range(EPOCHS):
            trial.run_epoch()
        trial.close()
    return folder


@pytest.fixture
def start(alone, tmp_path):
    started = []

    def begin(**settings):
        arguments = tmp_path / "out", alone / "cache", alone / "data", json.dumps(settings)
        started.append(SearchProcess(tmp_path / "out", tmp_path / "log", "shared_search.py", *arguments))
        return started[-1]

    yield begin
    for search in started:
        search.close()
    print((tmp_path / "log").read_text()[-6000:])


def check_metrics(alone, out, number, epochs=EPOCHS, alike=EPOCHS):
    """Check that there are so many epochs, and that the first of them are as one worker trains them."""
    one, two = (pd.read_csv(trial_folder(folder, number) / "metrics.csv") for folder in (alone / "alone", out))
    assert list(two.epoch) == list(range(1, epochs + 1))
    for name in ("train_loss", "validation_loss", "learning_rate"):
        assert two[name].to_numpy()[:alike] == pytest.approx(one[name].to_numpy()[: min(epochs, alike)], abs=1e-4)


def test_two_workers_train_as_one_and_one_that_raises_fails_its_trial_alone(alone, start):
    search = start(raises_in=[1])
    assert search.wait() == 0
    trials = check_accounts(search.out, 3)
    assert [trial.end for trial in trials] == ["complete", "failed", "complete"]
    assert trials[1].epochs == 1 and "the second worker raises" in trials[1].ended
    assert "Traceback" in (trial_folder(search.out, 1) / "error.txt").read_text()
    for number, epochs in enumerate((EPOCHS, 1, EPOCHS)):
        check_metrics(alone, search.out, number, epochs)
    assert "2 workers" in (trial_folder(search.out, 0) / "device.txt").read_text()
    assert not search.left_behind()


def test_one_without_memory_costs_no_trial_and_both_go_on_with_fewer_images(alone, start):
    search = start(starves_in=[1])
    assert search.wait() == 0
    trials = check_accounts(search.out, 3)
    assert all(trial.end == "complete" and trial.epochs == EPOCHS for trial in trials)
    noted = (trial_folder(search.out, 1) / MEMORY).read_text()
    assert noted == "epoch 2: out of memory on one of 2 workers; 4 images at a time from now on\n"
    check_metrics(alone, search.out, 0)
    check_metrics(alone, search.out, 1, alike=1)  # from there on its batch norms see the parts alone
    check_metrics(alone, search.out, 2)
    assert not (trial_folder(search.out, 2) / MEMORY).exists()
    assert not search.left_behind()


def test_a_killed_worker_costs_no_trial_and_no_epoch(alone, start):
    search = start(seconds=1.0)
    for number, rank in ((0, 1), (1, 0)):
        found = search.wait_until(lambda trials, number=number: len(trials) > number and 2 <= trials[number].epochs < EPOCHS)
        os.kill(int((trial_folder(search.out, number) / f"pid-{rank}").read_text()), signal.SIGKILL)
        killed = time.monotonic()
        done = found[number].epochs
        search.wait_until(lambda trials, number=number, done=done: trials[number].epochs > done)
        assert time.monotonic() - killed < RESTART_SECONDS
    assert search.wait() == 0
    trials = check_accounts(search.out, 3)
    assert all(trial.end == "complete" and trial.epochs == EPOCHS for trial in trials)
    for number in range(3):
        check_metrics(alone, search.out, number)
    assert not search.left_behind()
