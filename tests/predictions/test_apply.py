import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpa_search.errors import UserError
from hpa_search.predictions.apply import apply_ensemble
from hpa_search.predictions.chosen import read_chosen
from hpa_search.predictions.ensemble import make_ensemble
from hpa_search.predictions.reading import read_labelled


@pytest.fixture(scope="module")
def made(drawn, tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    np.savez(place / "predictions.npz", **drawn())
    make_ensemble(place / "predictions.npz", place / "ensemble", say=lambda line: None)
    return place / "ensemble"


@pytest.fixture
def folder(made, tmp_path):
    """An ensemble of the models good and fair, to be damaged at will."""
    return Path(shutil.copytree(made, tmp_path / "ensemble"))


def labels_of(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "Id,Predicted"
    return dict(line.split(",") for line in lines[1:])


def test_other_rows_get_their_labels(folder, npz, drawn, tmp_path):
    other = drawn(rows=400, seed=9)
    path = npz("other.npz", rows=400, seed=9, labels=None)
    applied = apply_ensemble(folder, path, tmp_path / "labels.csv", probabilities=tmp_path / "p.npz")
    found = labels_of(tmp_path / "labels.csv")
    assert list(found) == other["ids"].tolist()
    assert all(found.values())
    chosen = read_chosen(folder)
    given = read_labelled(npz("again.npz", rows=400, seed=9))
    members = given.logits[[given.names.index(model.name) for model in chosen.members]]
    decision = chosen.of_members.rule.predict(chosen.of_members.logits(members))
    assert [" ".join(map(str, np.flatnonzero(row))) for row in decision.labels] == list(found.values())
    assert (applied.rows, applied.filled) == (400, decision.filled)
    with np.load(tmp_path / "p.npz") as file:
        p = file["probabilities"]
    clear = np.flatnonzero((p >= chosen.decision_rule.thresholds).any(axis=1))
    np.testing.assert_array_equal(p[clear] >= chosen.decision_rule.thresholds, decision.labels[clear])


def test_a_sheet_and_rows_in_another_order_get_the_same(folder, npz, sheet, drawn, tmp_path):
    apply_ensemble(folder, npz(labels=None), tmp_path / "a.csv")
    apply_ensemble(folder, sheet(labels=None), tmp_path / "b.csv")
    turned = {name: array[::-1] for name, array in drawn().items()}
    apply_ensemble(folder, npz("turned.npz", **turned), tmp_path / "c.csv")
    assert labels_of(tmp_path / "a.csv") == labels_of(tmp_path / "b.csv") == labels_of(tmp_path / "c.csv")


def test_one_row_is_enough(folder, npz, drawn, tmp_path):
    one = {name: array[:1] for name, array in drawn().items()}
    assert apply_ensemble(folder, npz("one.npz", **one), tmp_path / "a.csv").rows == 1


def test_models_of_no_weight_are_not_needed_and_others_are(folder, npz, tmp_path):
    everything = apply_ensemble(folder, npz(), tmp_path / "a.csv")
    assert apply_ensemble(folder, npz("less.npz", noise=None, labels=None), tmp_path / "b.csv") == everything
    assert labels_of(tmp_path / "a.csv") == labels_of(tmp_path / "b.csv")
    with pytest.raises(UserError, match=r"lacks the model\(s\) 'good'.*it has 'fair', 'noise'"):
        apply_ensemble(folder, npz("lacking.npz", good=None), tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()


def test_a_damaged_ensemble_is_refused(folder, npz, tmp_path):
    content = json.loads((folder / "ensemble.json").read_text())
    content["rule"]["thresholds"][3] = None
    (folder / "ensemble.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"rule\.thresholds\.3: expected a number"):
        apply_ensemble(folder, npz(), tmp_path / "a.csv")
    with pytest.raises(UserError, match="holds no ensemble"):
        apply_ensemble(tmp_path / "nowhere", npz(), tmp_path / "a.csv")


def test_places_that_cannot_be(folder, npz, tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        apply_ensemble(folder, npz(), tmp_path)
    with pytest.raises(UserError, match="written as .npz or .csv"):
        apply_ensemble(folder, npz(), tmp_path / "a.csv", probabilities=tmp_path / "p.txt")
    with pytest.raises(UserError, match="the same file"):
        apply_ensemble(folder, npz(), tmp_path / "a.csv", probabilities=tmp_path / "a.csv")
