import csv
import json

import numpy as np
import pytest

from hpa_search.errors import UserError
from hpa_search.predictions.apply import apply_ensemble
from hpa_search.predictions.chosen import read_chosen
from hpa_search.predictions.ensemble import as_json, make_ensemble
from hpa_search.scoring.metrics import macro_f1

pytestmark = pytest.mark.long

FILES = {"ensemble.json", "estimate.json", "classes.csv", "members.csv", "SUMMARY.md"}


def make(path, out, **options):
    """Return what estimate.json says."""
    make_ensemble(path, out, say=lambda line: None, **options)
    return json.loads((out / "estimate.json").read_text())


def refused(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        make(*arguments, **options)
    return str(caught.value)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written(npz, tmp_path):
    said, told = [], []
    measured = make_ensemble(npz(), tmp_path / "new" / "out", say=said.append, tell=lambda done, of: told.append((done, of)))
    out = tmp_path / "new" / "out"
    assert {path.name for path in out.iterdir()} == FILES
    result = json.loads((out / "estimate.json").read_text())
    assert result == as_json(measured, measured.nested)
    assert read_chosen(out).rule == measured.rule
    assert result["low"] < result["macro_f1"] < result["high"] and result["level"] == 0.9
    assert result["optimism"] == pytest.approx(result["naive"] - result["macro_f1"])
    assert (result["rows"], result["models"], result["folds"]) == (150, 3, 10)
    assert "noise" not in result["members"]
    assert set(result["rules"]) >= {"plug_in", "exact", "proportion", "global", "grid", "half"}
    assert said == ["Choosing among 3 models on 150 rows."]
    assert told == [(done, 10) for done in range(1, 11)]
    members = rows_of(out / "members.csv")
    assert [row["model"] for row in members][-1] == "noise" and members[-1]["weight"] == "0"
    assert sum(float(row["weight"]) for row in members) == pytest.approx(1, abs=1e-5)
    classes = rows_of(out / "classes.csv")
    assert [row["id"] for row in classes] == list(map(str, range(28)))
    assert np.mean([float(row["F1"]) for row in classes]) == pytest.approx(result["macro_f1"], abs=1e-5)
    assert all(row["verdict"] for row in classes if int(row["positives"]) < 5)
    rule = read_chosen(out).decision_rule
    np.testing.assert_allclose([float(row["threshold"]) for row in classes], rule.thresholds, rtol=1e-5)
    np.testing.assert_allclose([float(row["slope"]) for row in classes], rule.platt.slope, rtol=1e-5)
    page = (out / "SUMMARY.md").read_text()
    assert f"Nested macro F1: {result['macro_f1']:.4f}" in page and "| 27 | Rods & rings |" in page


def test_a_sheet_gives_the_same_and_so_does_a_second_run(npz, sheet, tmp_path):
    results = [make(path, tmp_path / name) for name, path in (("a", npz()), ("b", sheet()), ("a", npz()))]
    assert results[0] == results[1] == results[2]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_single_and_uniform_and_at_most_so_many(npz, tmp_path):
    assert list(make(npz(), tmp_path / "a", ensemble="single")["members"]) == ["good"]
    assert make(npz(), tmp_path / "b", ensemble="uniform", max_members=2)["members"] == {"good": 0.5, "fair": 0.5}
    only = make(npz(), tmp_path / "c", max_members=1, thresholds="half")
    assert len(only["members"]) == 1
    assert read_chosen(tmp_path / "c").decision_rule.thresholds.tolist() == [0.5] * 28


def test_logits_and_probabilities_of_the_same_models_agree(npz, drawn, tmp_path):
    arrays = drawn()
    odds = {name: np.log(arrays[name]) - np.log1p(-arrays[name]) for name in ("good", "fair", "noise")}
    one, other = make(npz(), tmp_path / "a"), make(npz("logits.npz", **odds), tmp_path / "b", logits=True)
    assert one["members"] == pytest.approx(other["members"], abs=0.02)
    assert one["macro_f1"] == pytest.approx(other["macro_f1"], abs=0.01)


def test_groups_share_a_fold(npz, drawn, tmp_path):
    """Ten copies of each row are found again in the other folds, unless they are one group."""
    arrays = {name: np.repeat(array, 10, axis=0) for name, array in drawn(rows=60).items()}
    arrays["ids"] = np.arange(600)
    torn = make(npz("torn.npz", **arrays), tmp_path / "a", thresholds="exact")
    whole = make(npz("whole.npz", **arrays, groups=np.arange(600) // 10), tmp_path / "b", thresholds="exact")
    assert (torn["groups"], whole["groups"]) == (None, 60)
    assert torn["macro_f1"] > whole["macro_f1"] + 0.03
    assert torn["high"] - torn["low"] < 0.6 * (whole["high"] - whole["low"])


def test_few_rows(npz, drawn, tmp_path):
    assert make(npz(rows=4), tmp_path / "a")["folds"] == 4
    assert "none can be held out" in refused(npz(rows=1), tmp_path / "b")
    assert "in one group" in refused(npz(groups=np.zeros(150, dtype=int)), tmp_path / "b")
    labels = drawn()["labels"]
    labels[5:] = 0
    assert "5 of 150 rows have a label; leave the others out, or label at least 20" in refused(npz(labels=labels), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_rows_without_a_label_are_told_of(npz, drawn, tmp_path):
    labels, said = drawn()["labels"], []
    labels[:7] = 0
    make_ensemble(npz(labels=labels), tmp_path / "a", say=said.append)
    assert said[1].startswith("7 rows have no label")


def test_one_model_with_ties(npz, drawn, tmp_path):
    coarse = drawn()["good"].round(1)
    assert list(make(npz(good=coarse, fair=None, noise=None), tmp_path / "a")["members"]) == ["good"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"ensemble": "gredy"},
            "--ensemble: expected one of 'greedy', 'uniform', 'single' (given: 'gredy'); did you mean 'greedy'?",
        ),
        ({"thresholds": "best"}, "--thresholds: expected one of"),
        ({"max_members": 0}, "--max-members 0: expected 1 to 50"),
    ],
)
def test_wrong_options(npz, tmp_path, options, words):
    assert words in refused(npz(), tmp_path / "a", **options)


def test_foreign_files_are_never_written_over(npz, tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "SUMMARY.md").write_text("mine")
    assert "holds files that are not an ensemble's" in refused(npz(), folder)
    (folder / "ensemble.json").write_text('{"mine": true}')
    before = contents(folder)
    assert "holds files that are not an ensemble's" in refused(npz(), folder)
    assert contents(folder) == before
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "nothing can be written here" in refused(npz(), place)


def test_an_ensemble_is_written_anew_and_what_else_is_there_stays(npz, tmp_path):
    make(npz(), tmp_path / "a", ensemble="single")
    (tmp_path / "a" / "labels.csv").write_text("Id,Predicted\n")
    make(npz(seed=1), tmp_path / "a")
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES | {"labels.csv"}
    assert read_chosen(tmp_path / "a").ensemble == "greedy"
    make(npz(seed=1), tmp_path / "b")
    assert {**contents(tmp_path / "b"), "labels.csv": b"Id,Predicted\n"} == contents(tmp_path / "a")


def test_more_models_than_are_looked_at(npz, drawn, tmp_path):
    rng, said = np.random.default_rng(0), []
    noise = {f"noise{i}": rng.random((60, 28)).astype(np.float32) for i in range(60)}
    arrays = drawn(rows=60)
    measured = make_ensemble(npz(**{**noise, **arrays}), tmp_path / "a", ensemble="uniform", max_members=50, say=said.append)
    assert "only the 50 models with the highest macro AP" in said[1]
    assert len(measured.members) == 50 and measured.candidates == 63
    assert {"good", "fair"} < {member.source for member in measured.members}


def test_real_predictions(real, tmp_path):
    """Chosen on half of the rows, the estimate is near what the labels of the other half score."""
    order = np.random.default_rng(0).permutation(len(real["ids"]))
    fit, rest = order[:3107], order[3107:]
    np.savez(tmp_path / "fit.npz", **{name: array[fit] for name, array in real.items()})
    np.savez(tmp_path / "rest.npz", **{name: array[rest] for name, array in real.items() if name != "labels"})
    result = make(tmp_path / "fit.npz", tmp_path / "out")
    assert not {"inception_224_rgb", "vgg16_224_green"} & set(result["members"])
    apply_ensemble(tmp_path / "out", tmp_path / "rest.npz", tmp_path / "labels.csv")
    rows = rows_of(tmp_path / "labels.csv")
    assert [row["Id"] for row in rows] == real["ids"][rest].tolist()
    predicted = np.zeros((len(rest), 28), dtype=bool)
    for place, row in enumerate(rows):
        predicted[place, list(map(int, row["Predicted"].split()))] = True
    truth = macro_f1(predicted, real["labels"][rest])
    assert truth > 0.54
    assert abs(result["macro_f1"] - truth) < 0.05
    assert abs(result["macro_f1"] - truth) < abs(result["naive"] - truth) + 0.01
    assert result["difference_to_best_single"]["value"] > -0.003
