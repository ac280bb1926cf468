import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hpa_search.bundle.export import write_bundle
from hpa_search.data.kaggle import read_dataset
from hpa_search.finish.material import read_material
from hpa_search.finish.measure import appraise_pool, as_json, measure
from hpa_search.scoring.final import FinalChoice
from hpa_search.scoring.intervals import bootstrap_interval
from hpa_search.scoring.metrics import all_positive_floor
from tests.scoring.measurements import measured_search


@pytest.fixture
def choice(material):
    return FinalChoice(
        classes=material.pool.classes, trained=material.pool.trained, rounds=5, bags=2, covers=material.pool.covers
    )


@pytest.fixture
def own(study, tmp_path):
    """The material of a copy of the study, which a test may write into."""
    shutil.copytree(study / "out", tmp_path / "out")
    return read_material(tmp_path / "out", study / "cache", None, (), print)


def export(material, ensemble, bundle):
    pool, provenance = material.pool, material.provenance
    members = [(pool.candidates[i], float(ensemble.weights[i]), ensemble.maps[i]) for i in np.flatnonzero(ensemble.weights)]
    return write_bundle(bundle, "study", members, ensemble.rule, mean=provenance.mean, std=provenance.std, provenance={})


def test_the_choice_is_repeated_in_folds_of_whole_groups(material, choice):
    ensemble, nested = appraise_pool(material, choice)
    groups = len(set(material.groups(material.pool.rows)))
    assert (nested.rows, nested.groups, nested.folds, nested.networks) == (len(material.pool.rows), groups, min(10, groups), 1)
    assert [score.threshold for score in nested.classes] == ensemble.rule.thresholds.tolist()
    again = choice(material.pool.logits, material.labels(material.pool.rows))
    np.testing.assert_array_equal(again.weights, ensemble.weights)


def test_rows_of_one_group_have_no_nested_estimate(material, choice):
    dataset = replace(material.dataset, groups=("same",) * len(material.dataset.ids))
    ensemble, nested = appraise_pool(replace(material, dataset=dataset), choice)
    assert nested is None and ensemble.weights.sum() == pytest.approx(1)


def test_the_test_rows_are_scored_by_the_files_of_the_bundle(own, choice, tmp_path):
    ensemble, nested = appraise_pool(own, choice)
    manifest = export(own, ensemble, tmp_path / "bundle")
    measured = measure(own, choice, nested, tmp_path / "bundle", manifest)
    rows = own.split.test
    stored, labels = np.load(own.out / "test_predictions.npz"), own.labels(rows)
    assert stored["ids"].tolist() == [own.dataset.ids[row] for row in rows]
    decided = manifest.decision_rule.decide(stored["probabilities"])
    assert measured.test.ensemble == bootstrap_interval(decided.labels, labels, groups=own.groups(rows))
    assert (measured.test.floor, measured.test.filled) == (all_positive_floor(labels), decided.filled)
    assert len(measured.test.classes) == 28
    difference = measured.test.ensemble.value - measured.test.best_single.value
    assert measured.test.difference.value == pytest.approx(difference)


def test_counts_and_names_are_those_of_the_search(own, choice, tmp_path):
    ensemble, nested = appraise_pool(own, choice)
    measured = measure(own, choice, nested, tmp_path / "bundle", export(own, ensemble, tmp_path / "bundle"))
    assert measured.rows == {part: len(getattr(own.split, part)) for part in ("train", "validation", "test")}
    assert measured.positives["test"] == tuple(own.labels(own.split.test).sum(axis=0).tolist())
    best = own.pool.candidates[own.pool.best_single]
    assert (measured.best_single.trial, measured.best_single.epoch) == (best.trial, best.epoch)
    second = measured.runner_up
    assert second.source.trial != best.trial and second.macro_ap[0] > second.macro_ap[1] - 1e-3
    assert second.difference.value == pytest.approx(second.macro_ap[0] - second.macro_ap[1])
    assert sum(member.weight for member in measured.members) == pytest.approx(1)
    assert measured.submission == len(read_dataset(own.dataset.root).test_ids) == 3
    assert json.loads(json.dumps(as_json(measured))) == as_json(measured)


def test_without_test_rows_nothing_is_scored_and_nothing_written(own, choice, tmp_path):
    ensemble, nested = appraise_pool(own, choice)
    manifest = export(own, ensemble, tmp_path / "bundle")
    bare = replace(own, split=replace(own.split, test=own.split.test[:0]))
    assert measure(bare, choice, nested, tmp_path / "bundle", manifest).test is None
    assert not (own.out / "test_predictions.npz").exists()


def test_result_json_keeps_its_keys():
    found = as_json(measured_search())
    assert list(found) == [
        "labels", "rows", "positives", "final", "members", "best_single", "runner_up", "nested", "classes", "test", "submission",
    ]  # fmt: skip
    assert list(found["nested"]) == [
        "value", "low", "high", "level", "naive", "optimism", "rows", "networks", "classes_absent", "macro_f1_present",
        "rows_filled", "ways", "differences", "rules",
    ]  # fmt: skip
    assert found["final"] == {"tta": "none", "ensemble": "greedy", "thresholds": "plug_in"}
    assert found["members"][0] == {"search": "first", "trial": 3, "epoch": 9, "weight": 0.75}
    assert list(found["runner_up"]) == ["search", "trial", "epoch", "macro_ap", "difference"]
    assert list(found["test"]) == ["ensemble", "best_single", "difference", "floor", "rows_filled", "classes"]
    assert set(found["classes"][0]) == {"label", "positives", "claimed", "f1", "threshold", "verdict"}
    bare = as_json(measured_search(test=None, nested=None, runner_up=None))
    assert (bare["test"], bare["nested"], bare["classes"], bare["runner_up"]) == (None, None, [], None)
