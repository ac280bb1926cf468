"""The final stage on a small search whose trials were trained here, without Ray."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from hpa_search.bundle.manifest import read_manifest
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.splits import read_split
from hpa_search.errors import UserError
from hpa_search.finish.measure import as_json
from hpa_search.finish.stage import finish
from hpa_search.finish.summary import summary
from hpa_search.ledger.ledger import Ledger
from hpa_search.phantom.dataset import make_phantom
from hpa_search.scoring.measured import Snapshot
from hpa_search.scoring.metrics import all_positive_floor, macro_f1
from hpa_search.search.leg import EpochReport
from hpa_search.training.job import open_trial, trial_folder

pytestmark = pytest.mark.long

SPLIT = "{train: 0.6, validation: 0.2, test: 0.2}"
SPACE = """
name: finish
fixed: {{full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}}
space: {{learning_rate: {{log_range: [1.0e-3, 1.0e-2]}}, channels: {{choice: [rgby, g]}}}}
budget: {{trials: 2}}
scheduler: {{kind: none, max_epochs: 2}}
final: {{onnx: false}}
split: {split}
"""


def make_data(folder, groups=None):
    make_phantom(folder / "data", images=120, size=32, seed=0, lift=4, test_images=6)
    if groups:
        ids = read_dataset(folder / "data").ids
        pd.DataFrame({"Id": ids, "Group": [f"g{row % groups}" for row in range(len(ids))]}).to_csv(
            folder / "data/groups.csv", index=False
        )


@pytest.fixture(scope="module")
def train_search(train):
    def run(folder, split=SPLIT, groups=None):
        make_data(folder, groups)
        return train(folder / "out", SPACE.format(split=split), folder / "data", folder / "cache")

    return run


@pytest.fixture(scope="module")
def searched(tmp_path_factory, train_search):
    folder = tmp_path_factory.mktemp("finish")
    return folder, train_search(folder)


def test_it_measures_what_it_exported(searched):
    folder, out = searched
    measured = finish(out, folder / "cache")
    assert json.loads((out / "result.json").read_text()) == as_json(measured)
    manifest = read_manifest(out / "bundle")
    members = [(member.source.trial, member.source.epoch, member.weight) for member in measured.members]
    assert [(m.trial, m.epoch, m.weight) for m in manifest.members] == members and manifest.rule == measured.rule
    dataset = read_dataset(folder / "data")
    split = read_split(out / "split.csv", dataset.ids)
    assert measured.test.floor == pytest.approx(all_positive_floor(dataset.labels[split.test]))
    assert measured.rows == {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)}
    assert (measured.nested.rows, measured.nested.folds, measured.nested.groups) == (len(split.validation), 10, None)
    stored = np.load(out / "test_predictions.npz")
    assert list(stored["ids"]) == [dataset.ids[row] for row in split.test]
    assert len((out / "submission.csv").read_text().splitlines()) == 7
    assert (out / "bundle" / "MODEL_CARD.md").is_file()


def test_the_best_single_trial_is_the_one_with_the_best_objective(searched):
    folder, out = searched
    measured = finish(out, folder / "cache")
    best = max((report, facts.number, epoch) for facts in Ledger.open(out).trials() for epoch, report in facts.reports.items())
    assert measured.best_single == Snapshot("finish", best[1], best[2])


def test_finishing_again_gives_the_same(searched):
    folder, out = searched
    assert finish(out, folder / "cache") == finish(out, folder / "cache")


def test_predictions_are_kept_of_the_rows_that_chose_and_none_of_an_earlier_final_stage(searched):
    folder, out = searched
    (out / "out_of_fold_predictions.npz").write_bytes(b"of a final stage with --folds")
    measured = finish(out, folder / "cache")
    assert not (out / "out_of_fold_predictions.npz").exists()
    stored = np.load(out / "validation_predictions.npz")
    dataset = read_dataset(folder / "data")
    rows = read_split(out / "split.csv", dataset.ids).validation
    assert list(stored["ids"]) == [dataset.ids[row] for row in rows] and (stored["labels"] == dataset.labels[rows]).all()
    decided = measured.rule.decision.decide(stored["probabilities"]).labels
    assert macro_f1(decided, dataset.labels[rows]) == pytest.approx(measured.nested.naive)


def test_two_final_stages_at_once_do_not_mix(searched):
    folder, out = searched
    finish(out, folder / "cache")
    before = {path: path.read_bytes() for path in (out / "bundle").iterdir()}
    program = "import sys, time; from pathlib import Path; from hpa_search.finish.stage import _alone; "
    program += "from hpa_search.storage.opened import WorkingCopy\nwith _alone(WorkingCopy.of(Path(sys.argv[1]))): print(flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="another final stage is at work"):
            finish(out, folder / "cache")
        other.kill()
    assert {path: path.read_bytes() for path in (out / "bundle").iterdir()} == before
    finish(out, folder / "cache")


def test_moved_data_is_found_where_it_is_said_to_be(searched, tmp_path):
    folder, out = searched
    (folder / "data").rename(tmp_path / "moved")
    try:
        with pytest.raises(UserError, match="is not a folder"):
            finish(out, folder / "cache")
        finish(out, folder / "cache", data=tmp_path / "moved")
    finally:
        (tmp_path / "moved").rename(folder / "data")


def test_without_a_test_split_the_nested_estimate_is_the_number(tmp_path, train_search):
    out = train_search(tmp_path, split="{train: 0.7, validation: 0.3, test: 0}")
    measured = finish(out, tmp_path / "cache")
    assert measured.test is None
    text = "\n".join(summary(out, measured))
    assert "which flatters" in text
    assert "Test macro F1" not in text and "nested estimate is the number to go by" in text


@pytest.mark.parametrize("reported", [0, 1])
def test_epochs_that_the_ledger_never_heard_of_are_candidates(tmp_path, begin, reported):
    """The search was stopped between a worker's checkpoint and its report."""
    make_data(tmp_path)
    job, agenda = begin(tmp_path / "out", SPACE.format(split=SPLIT), tmp_path / "data", tmp_path / "cache")
    leg = agenda.next()
    trial = open_trial(job, leg.number, leg.parameters)
    for epoch in (1, 2):
        metrics = trial.run_epoch()
        if epoch <= reported:
            agenda.report(leg.number, EpochReport.of(metrics))
    for path in (trial_folder(job.out, 0) / "weights").glob("*1.safetensors"):
        path.unlink()
    assert finish(job.out, tmp_path / "cache").best_single == Snapshot("finish", 0, 2)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("logits.npz", "missing"),
        ("logits.npz", "cut"),
        ("logits.npz", "foreign"),
        ("metrics.csv", "missing"),
        ("metrics.csv", "cut"),
    ],
)
def test_a_trial_with_a_damaged_file_is_left_out_by_name(searched, tmp_path, name, damage):
    folder, out = searched
    shutil.copytree(out, tmp_path / "out")
    path = trial_folder(tmp_path / "out", 0) / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:30])
    elif damage == "foreign":
        np.savez(path, epoch_001=np.zeros((3, 28), dtype=np.float16))
    said = []
    measured = finish(tmp_path / "out", folder / "cache", say=said.append)
    assert any(line.startswith("Trial 0 is left out:") and str(path) in line for line in said)
    assert {member.source.trial for member in measured.members} == {1}


def test_groups_are_drawn_and_held_out_as_wholes(tmp_path, train_search):
    out = train_search(tmp_path, groups=12)
    measured = finish(out, tmp_path / "cache")
    dataset = read_dataset(tmp_path / "data")
    rows = read_split(out / "split.csv", dataset.ids).validation
    assert measured.nested.groups == len({dataset.groups[row] for row in rows}) < 12
    assert measured.test.ensemble.low <= measured.test.ensemble.high


def test_nothing_to_choose_from_is_said_so(searched, tmp_path):
    folder, out = searched
    weights = [path for number in (0, 1) for path in (trial_folder(out, number) / "weights").iterdir()]
    hidden = [path.rename(tmp_path / f"{index}") for index, path in enumerate(weights)]
    try:
        with pytest.raises(UserError, match="no trial has finished an epoch"):
            finish(out, folder / "cache")
    finally:
        for path, place in zip(hidden, weights, strict=True):
            path.rename(place)
