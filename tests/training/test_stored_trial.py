"""A trial in an object store, stopped between any two calls to the store: it resumes and loses no reported epoch."""

import io

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from hpa_search.errors import UserError
from hpa_search.storage import patience
from hpa_search.storage import store as store_module
from hpa_search.storage.opened import MIRRORS
from hpa_search.storage.store import Store
from hpa_search.training.checkpoint import TakenOverError, best_epoch
from hpa_search.training.stored_trial import StoredTrial, open_stored
from hpa_search.training.trainer import Trainer
from tests.training.trial import CONFIG as TRAINER_CONFIG
from tests.training.trial import TIMES, make_data, make_trainer, timeless

pytestmark = pytest.mark.long

CONFIG = TRAINER_CONFIG.model_copy(update={"full_size": 32, "dropout": 0.0})
EPOCHS = 3
DATA = make_data(rows=64)


def open_local(folder, config=CONFIG, seed=7) -> Trainer:
    return make_trainer(folder, config, data=DATA, epochs=EPOCHS, seed=seed)


def results(folder, store=None):
    """Everything that a finished trial's folder holds, without what differs from run to run."""
    logits = np.load(folder / "logits.npz")
    weights = {path.name: safetensors.torch.load_file(path) for path in (folder / "weights").iterdir()}
    metrics = pd.read_csv(folder / "metrics.csv").drop(columns=list(TIMES), errors="ignore")
    return {name: logits[name] for name in logits.files}, weights, metrics


def equal(one, other):
    for left, right in zip(one[:2], other[:2], strict=True):
        assert left.keys() == right.keys()
    assert all((one[0][name] == other[0][name]).all() for name in one[0])
    for name in one[1]:
        assert all(torch.equal(tensor, other[1][name][key]) for key, tensor in one[1][name].items())
    pd.testing.assert_frame_equal(one[2], other[2])
    return True


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of the trial as it comes out without a store, and its history."""
    folder = tmp_path_factory.mktemp("undisturbed")
    trial = open_local(folder)
    history = [trial.run_epoch() for _ in range(EPOCHS)]
    trial.close()
    return folder, history


def finish(trial):
    reported = list(trial.history)
    while len(reported) < EPOCHS:
        reported.append(trial.run_epoch())
    trial.close()
    return reported


def fetched(store, folder):
    for name, stored in store.list().items():
        store.fetch(name, folder / name, stored)
    return folder


def test_its_folder_in_the_store_is_as_a_local_one(bucket, tmp_path, undisturbed):
    place = bucket / "out/trials/0007"
    trial = open_stored(place, tmp_path / "cache", open_local)
    assert isinstance(trial, StoredTrial) and list(trial.history) == []
    history = finish(trial)
    assert timeless(history) == timeless(undisturbed[1])
    assert equal(results(fetched(Store(place), tmp_path / "back")), results(undisturbed[0]))
    assert list((tmp_path / "cache" / MIRRORS).iterdir()) == []
    again = open_stored(place, tmp_path / "cache", open_local)
    assert timeless(again.history) == timeless(history)
    again.close()


def test_a_trial_of_another_configuration_is_refused_by_its_place(bucket, tmp_path):
    place = bucket / "out/trials/0007"
    trial = open_stored(place, tmp_path, open_local)
    trial.run_epoch()
    trial.close()
    with pytest.raises(UserError, match=f"^{place} holds the training of another configuration"):
        open_stored(place, tmp_path, lambda folder: open_local(folder, seed=8))
    assert list((tmp_path / MIRRORS).iterdir()) == []


class Killed(BaseException):
    """Nothing that a program handles."""


class Calls:
    """Counts what is asked of stores, and ends the process, as it were, before the call number ``fatal``."""

    def __init__(self, monkeypatch):
        self.made, self.fatal = 0, None
        for name in ("push", "write", "delete", "fetch", "list", "look"):
            monkeypatch.setattr(Store, name, self._counted(getattr(Store, name)))

    def _counted(self, call):
        def counted(*arguments, **options):
            self.made += 1
            if self.fatal is not None and self.made >= self.fatal:
                raise Killed
            return call(*arguments, **options)

        return counted


def test_killed_between_any_two_calls_it_resumes_and_loses_no_reported_epoch(bucket, tmp_path, monkeypatch, undisturbed):
    calls = Calls(monkeypatch)
    finish(open_stored(bucket / "counted", tmp_path / "cache", open_local))
    total = calls.made
    assert total > 15
    wanted, seen = results(undisturbed[0]), set()
    for fatal in range(1, total + 1):
        place, reported = bucket / f"trial{fatal}", []
        calls.made, calls.fatal = 0, fatal
        trial = None
        try:
            trial = open_stored(place, tmp_path / "cache", open_local)
            while len(reported) < EPOCHS:
                reported.append(trial.run_epoch())
        except Killed:
            pass
        if trial is not None:
            trial.close()
        calls.fatal = None
        check_usable(Store(place), reported)
        going_on = open_stored(place, tmp_path / "cache", open_local)
        assert timeless(going_on.history)[: len(reported)] == timeless(reported)
        seen.add((len(reported), len(going_on.history)))
        assert timeless(finish(going_on)) == timeless(undisturbed[1])
        assert equal(results(fetched(Store(place), tmp_path / f"back{fatal}")), wanted)
    # Stops were hit on both sides of the checkpoint of each epoch.
    assert {(done, done) for done in range(EPOCHS)} | {(done, done + 1) for done in range(EPOCHS)} <= seen


def check_usable(store, reported):
    """At every instant the store holds the weights of the last and the best epoch that were reported, and their metrics."""
    if not reported:
        return
    there = store.list().keys()
    assert {"metrics.csv", "logits.npz", "checkpoint.pt"} <= there
    rows = pd.read_csv(io.BytesIO(store.read("metrics.csv")))
    assert len(rows) >= len(reported)
    history = tuple(rows.to_dict("records"))
    assert f"weights/epoch-{best_epoch(history):03d}.safetensors" in there
    assert any(f"weights/epoch-{epoch:03d}.safetensors" in there for epoch in (len(rows), len(rows) + 1))


def test_a_worker_that_was_given_up_for_dead_does_not_write_over_its_successor(bucket, tmp_path):
    place = bucket / "trial"
    first = open_stored(place, tmp_path, open_local)
    first.run_epoch()
    second = open_stored(place, tmp_path, open_local)
    second.run_epoch()
    before = Store(place).list()
    with pytest.raises(TakenOverError, match="checkpoint.pt was written by another worker"):
        first.run_epoch()
    assert Store(place).list() == before
    first.close()
    second.close()


def test_a_store_that_is_away_is_waited_for(s3, bucket, tmp_path, monkeypatch, undisturbed):
    trial = open_stored(bucket / "trial", tmp_path, open_local)
    with s3.away_for(2):
        first = trial.run_epoch()
    assert timeless([first]) == timeless(undisturbed[1][:1])
    trial.close()


def test_a_store_that_stays_away_fails_the_epoch_and_the_trial_can_be_opened_again(s3, bucket, tmp_path, monkeypatch):
    trial = open_stored(bucket / "trial", tmp_path, open_local)
    trial.run_epoch()
    monkeypatch.setattr(store_module, "OUTAGE_SECONDS", 1.0)
    Store(bucket / "trial").look("checkpoint.pt")
    trial._mirror.store._patience.seconds = 1.0
    s3.stop()
    with pytest.raises(patience.Unreachable, match=f"{bucket}/trial"):
        trial.run_epoch()
    trial.close()
    s3.start()
    again = open_stored(bucket / "trial", tmp_path, open_local)
    assert len(again.history) == 1
    again.close()
