import shutil

import numpy as np
import pytest

from hpa_search.errors import UserError
from hpa_search.finish.material import read_material
from hpa_search.ledger.ledger import Ledger
from hpa_search.storage.opened import WorkingCopy
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import trial_folder


def test_every_epoch_whose_weights_exist_is_a_candidate_the_best_first(study, material):
    pool = material.pool
    kept = {(one.trial, one.epoch) for one in pool.candidates}
    there = {
        (number, int(path.stem.removeprefix("epoch-")))
        for number in range(4)
        for path in (trial_folder(study / "out", number) / "weights").iterdir()
    }
    assert kept == there and all(one.weights.is_file() for one in pool.candidates)
    reports = {facts.number: facts.reports for facts in Ledger.open(study / "out").trials()}
    objectives = [reports[one.trial][one.epoch] for one in pool.candidates]
    assert objectives == sorted(objectives, reverse=True)


def test_logits_labels_and_groups_are_those_of_the_validation_rows(study, material):
    pool, best = material.pool, material.pool.candidates[0]
    np.testing.assert_array_equal(pool.rows, material.split.validation)
    stored = read_logits(trial_folder(study / "out", best.trial))[best.epoch]
    np.testing.assert_array_equal(pool.logits[0], stored.astype(np.float32))
    rows = pool.rows[:3]
    np.testing.assert_array_equal(material.labels(rows), material.dataset.labels[rows])
    assert material.groups(rows).tolist() == [material.dataset.groups[row] for row in rows]
    trained = np.flatnonzero(material.labels(material.split.train).any(axis=0))
    assert pool.trained == tuple(trained.tolist()) and pool.external == {}


def test_a_dataset_without_groups_has_none(study, begin, train, tmp_path):
    shutil.copytree(study / "data", tmp_path / "data")
    (tmp_path / "data/groups.csv").unlink()
    text = (study / "out" / "search.yaml").read_text().replace("[0, 1]", "[0]").replace("[rgby, g]", "[g]")
    out = train(tmp_path / "out", text, tmp_path / "data", study / "cache")
    found = read_material(out, study / "cache", None, (), print)
    assert found.groups(found.pool.rows) is None and {one.trial for one in found.pool.candidates} == {0}


def test_a_local_search_has_its_weights_already(study, material):
    before = {path: path.stat().st_mtime_ns for path in (study / "out").rglob("*.safetensors")}
    material.obtain([0, 1])
    assert {path: path.stat().st_mtime_ns for path in (study / "out").rglob("*.safetensors")} == before


def test_a_search_that_is_opened_already_is_read_as_it_is(study, material):
    again = read_material(WorkingCopy.of(study / "out"), study / "cache", None, (), print)
    assert again.out == study / "out" and again.pool.candidates == material.pool.candidates


def test_a_search_named_twice_and_one_without_an_epoch_are_refused(study, begin, tmp_path):
    with pytest.raises(UserError, match="--also: .*twice"):
        read_material(study / "out", study / "cache", None, (study / "out",), print)
    begin(tmp_path / "out", (study / "out" / "search.yaml").read_text(), study / "data", study / "cache")
    with pytest.raises(UserError, match="no trial has finished an epoch"):
        read_material(tmp_path / "out", study / "cache", None, (), print)
