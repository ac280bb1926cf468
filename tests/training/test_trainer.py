"""One trial from the first epoch to the last."""

import dataclasses
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch

from hpa_search.labels import LABELS
from hpa_search.scoring.metrics import macro_average_precision, macro_f1
from hpa_search.scoring.rules import cross_fitted
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.score import METRICS, Scorer
from hpa_search.training.trainer import DivergedError
from tests.training.trial import CLASSES, CONFIG, EPOCHS, finish, make_data, make_trainer, same_results, timeless


def test_learns_what_there_is_to_learn(tmp_path):
    config = CONFIG.model_copy(update={"schedule": "constant", "dropout": 0.0})
    trainer = make_trainer(tmp_path, config, epochs=12)
    history = [trainer.run_epoch() for _ in range(12)]
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    assert history[-1]["macro_ap"] > 0.9


def test_metrics_are_complete_and_can_be_computed_again_from_the_logits(whole_run):
    folder, history = whole_run
    data = make_data()
    labels = data.labels[data.validation]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert set(history[0]) == {
        *("epoch", "train_loss", "validation_loss", *METRICS),
        *("objective", "seconds", "data_seconds", "evaluate_seconds", "learning_rate", "images_per_second"),
        *(f"f1/{LABELS[label]}" for label in np.flatnonzero(labels.any(axis=0))),
    }
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
    row = make_trainer(tmp_path, judge=Scorer(CLASSES, "macro_f1")).run_epoch()
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


def test_more_epochs_than_the_top_rung_are_refused(whole_run):
    with pytest.raises(RuntimeError, match="all 4 epochs"):
        make_trainer(whole_run[0]).run_epoch()


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
