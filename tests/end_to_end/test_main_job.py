"""The main job through the command line: real training on a phantom, two slots, one trial that fails."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.data.splits import read_split
from hpa_search.ledger.ledger import Ledger
from hpa_search.scoring.metrics import macro_average_precision
from hpa_search.search.reading import read_search
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import trial_folder

pytestmark = [pytest.mark.ray, pytest.mark.smoke]

SPACE = """
name: small
seed: 2
fixed: {full_size: 48, small_size: 32, batch_size: 16, augment: flips}
space:
  backbone: {choice: [test_resnet, test_efficientnet]}
  resolution: {choice: [downsize, gap, extra_blocks]}
  channels: {choice: [rgby, rgb, g]}
  loss: {choice: [bce, focal]}
  gamma: {range: [0.5, 3.0], when: {loss: focal}}
  class_weights: {choice: [none, ln, 1-f]}
  learning_rate: {log_range: [1.0e-3, 1.0e-2]}
start_points:
  - {backbone: test_resnet, resolution: gap, loss: bce, learning_rate: 3.0e-3}
budget: {trials: 9}
scheduler: {kind: promotion, min_epochs: 1, max_epochs: 9, eta: 3}
resources: {slots: 2, cpus: 1, gpus: 0}
"""


def hpa_search(*arguments, check=True):
    command = [sys.executable, "-m", "hpa_search.cli", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    print(done.stdout[-5000:], done.stderr[-5000:])
    assert not check or done.returncode == 0
    return done


def spoil_trial(folder, number):
    """Put a file where the trial's weights go, so that it raises when it saves its first epoch."""
    search, text = read_search(folder / "small.yaml")
    dataset = read_dataset(folder / "data")
    images = pack(dataset.train_folder, dataset.ids, folder / "cache")
    prepare(folder / "out", search, text, Inputs(dataset, images), folder / "cache", print)
    place = trial_folder(folder / "out", number)
    place.mkdir(parents=True)
    (place / "weights").write_text("in the way")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main")
    (folder / "small.yaml").write_text(SPACE)
    hpa_search("data", "phantom", folder / "data", "--images", 200, "--test-images", 20, "--size", 48, "--lift", 10)
    spoil_trial(folder, 1)
    arguments = ("run", folder / "small.yaml", "--data", folder / "data", "--out", folder / "out", "--cache", folder / "cache")
    return folder, hpa_search(*arguments), arguments


def test_it_ends_with_a_number_a_bundle_and_a_submission(finished):
    folder, done, _ = finished
    result = json.loads((folder / "out" / "result.json").read_text())
    for words in ("ensemble", "best single trial", "predict everything", "Bundle:", "Submission:", "Next:"):
        assert words in done.stdout.split("Choosing among")[1]
    test = result["test"]["ensemble"]
    assert test["low"] <= test["high"] and 0 < test["value"] < 1
    submission = pd.read_csv(folder / "out" / "submission.csv")
    assert list(submission.Id) == list(pd.read_csv(folder / "data" / "sample_submission.csv").Id)
    assert submission.Predicted.notna().all()


def test_trials_were_promoted_stopped_and_failed(finished):
    folder, _, _ = finished
    trials = Ledger.open(folder / "out").trials()
    assert len(trials) == 9
    assert sum(trial.epochs > 1 for trial in trials) >= 3
    assert any(trial.end == "pruned" for trial in trials)
    assert [trial.number for trial in trials if trial.end == "failed"] == [1]
    assert "Traceback" in (trial_folder(folder / "out", 1) / "error.txt").read_text()


def test_status_tells_as_designed(finished):
    folder, _, _ = finished
    status = json.loads(hpa_search("status", folder / "out", "--json").stdout)
    assert status["state"] == "finished"
    for trial in status["trials"]:
        assert trial["state"] in ("complete", "pruned", "failed")
        assert [report["epoch"] for report in trial["reports"]] == list(range(1, trial["epochs"] + 1))


def test_tensorboard_has_every_epoch(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, _ = finished
    for trial in Ledger.open(folder / "out").trials():
        if trial.reports:
            events = EventAccumulator(str(folder / "out" / "tensorboard" / f"{trial.number:04d}")).Reload()
            assert {event.step: pytest.approx(event.value, abs=1e-6) for event in events.Scalars("objective")} == trial.reports


def test_the_stored_logits_give_the_reported_objective(finished):
    folder, _, _ = finished
    dataset = read_dataset(folder / "data")
    rows = read_split(folder / "out" / "split.csv", dataset.ids).validation
    classes = json.loads((folder / "out" / "provenance.json").read_text())["classes"]
    for trial in Ledger.open(folder / "out").trials():
        if trial.end != "failed":
            for epoch, logits in read_logits(folder / "out" / "trials" / f"{trial.number:04d}").items():
                score = macro_average_precision(logits, dataset.labels[rows], np.array(classes))
                assert score == pytest.approx(trial.reports[epoch], abs=1e-12)


def test_the_bundle_repeats_its_test_predictions_from_the_files(finished):
    folder, _, _ = finished
    stored = np.load(folder / "out" / "test_predictions.npz")
    hpa_search(
        "predict",
        folder / "out" / "bundle",
        folder / "data" / "train",
        "--out",
        folder / "again.csv",
        "--cache",
        folder / "cache2",
    )
    again = pd.read_csv(folder / "again.csv", index_col="Id").Predicted.astype(str)
    rule = json.loads((folder / "out" / "bundle" / "bundle.json").read_text())["rule"]
    for identifier, probabilities in zip(stored["ids"], stored["probabilities"], strict=True):
        labels = np.flatnonzero(probabilities >= rule["thresholds"])
        expected = labels if len(labels) else [probabilities.argmax()]
        assert again[identifier] == " ".join(map(str, expected))


def test_running_it_again_changes_no_trial(finished):
    folder, _, arguments = finished
    before = Ledger.open(folder / "out").trials()
    hpa_search(*arguments)
    assert Ledger.open(folder / "out").trials() == before
