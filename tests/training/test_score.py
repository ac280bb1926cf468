from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from hpa_search.labels import LABELS
from hpa_search.scoring.metrics import macro_f1
from hpa_search.training.score import CLASS_F1, METRICS, ObjectiveMetric, Scorer


def sample(classes=28):
    rng = np.random.default_rng(0)
    labels = rng.random((200, classes)) < 0.2
    return (labels * 2.0 + rng.normal(0, 1, labels.shape) - 1).astype(np.float32), labels


def test_macro_ap_is_over_its_classes_and_f1_over_all():
    logits, labels = sample()
    found = Scorer(np.arange(28) < 3).score(logits, labels, 5, None)
    assert found["macro_ap"] == pytest.approx(average_precision_score(labels[:, :3], logits[:, :3], average="macro"))
    assert found["macro_f1_at_half"] == macro_f1(logits > 0, labels)
    assert found["objective"] == found["macro_ap"]


def test_a_restricted_search_is_scored_on_its_labels_alone():
    logits, labels = sample()
    only = np.isin(np.arange(28), [3, 7, 20])
    found = Scorer(only, "macro_f1", only).score(logits, labels, 5, None)
    changed = np.where(only, logits, -logits)
    assert found == Scorer(only, "macro_f1", only).score(changed, labels, 5, None)
    assert found["macro_f1_at_half"] == macro_f1(logits[:, only] > 0, labels[:, only])
    assert found["objective"] == found["macro_f1"]


def test_every_metric_is_in_the_report_and_every_objective_is_a_metric(monkeypatch):
    monkeypatch.setitem(METRICS, "rows", lambda rows: len(rows.labels))
    found = Scorer(np.arange(28) < 3).score(*sample(), 5, None)
    assert list(found)[:6] == ["macro_ap", "macro_f1_at_half", "macro_f1", "sample_f1", "rows", "objective"]
    assert found["rows"] == 200
    assert set(get_args(ObjectiveMetric)) <= set(METRICS)


def test_an_objective_outside_the_labels_is_refused():
    with pytest.raises(ValueError, match="leaves out"):
        Scorer(np.arange(28) < 3, "macro_ap", np.arange(28) < 2)


def test_the_f1_of_each_class_averages_to_macro_f1():
    found = Scorer(np.arange(28) < 3).score(*sample(), 5, None)
    scores = {name: value for name, value in found.items() if name.startswith(CLASS_F1)}
    assert list(scores) == [f"f1/{name}" for name in LABELS]
    assert np.mean(list(scores.values())) == pytest.approx(found["macro_f1"])


def test_a_class_without_a_positive_row_or_outside_the_search_has_no_f1():
    logits, labels = sample()
    labels[:, 7] = False
    only = np.isin(np.arange(28), [3, 7, 20])
    found = Scorer(np.arange(28) == 3, "macro_ap", only).score(logits, labels, 5, None)
    assert [name for name in found if name.startswith(CLASS_F1)] == [f"f1/{LABELS[3]}", f"f1/{LABELS[20]}"]
