"""`hpa-search ensemble` as a user meets it."""

import json
import shutil

import pytest
from click.testing import CliRunner

from hpa_search.cli import main


def run(*arguments):
    return CliRunner().invoke(main, ["ensemble", *map(str, arguments)])


def refused(*arguments) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.count("Error: ") == 1 and "Traceback" not in result.output
    return result.output


@pytest.fixture(scope="module")
def made(drawn, tmp_path_factory):
    """A folder with predictions.npz, the ensemble of them in out/, and what the command said."""
    import numpy as np

    place = tmp_path_factory.mktemp("made")
    np.savez(place / "predictions.npz", **drawn())
    result = run("--predictions", place / "predictions.npz", "--out", place / "out", "--max-members", 2)
    assert result.exit_code == 0, result.output
    return place, result.output


def test_what_came_out_where_it_is_and_what_to_type_next(made):
    place, said = made
    estimate = json.loads((place / "out" / "estimate.json").read_text())
    assert f"Nested macro F1: {estimate['macro_f1']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}] 90%" in said
    assert f"{estimate['naive']:.4f} (optimism {estimate['optimism']:+.4f})" in said
    assert "Against the best single model: " in said
    assert str(place / "out" / "SUMMARY.md") in said
    last = said.splitlines()[-1]
    assert last == f"Next: hpa-search ensemble --apply {place / 'out'} --predictions OTHER --out labels.csv"


def test_what_to_type_next_works(made, npz, tmp_path):
    place, said = made
    typed = said.splitlines()[-1].removeprefix("Next: hpa-search ensemble ").split()
    other = npz("other.npz", rows=30, seed=3, labels=None)
    words = [{"OTHER": other, "labels.csv": tmp_path / "labels.csv"}.get(word, word) for word in typed]
    result = run(*words, "--probabilities", tmp_path / "p.csv")
    assert (result.exit_code, "30 rows labelled in" in result.output) == (0, True), result.output
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == len((tmp_path / "p.csv").read_text().splitlines()) == 31


def test_options_that_make_no_sense_together(made, tmp_path):
    place, _ = made
    apply = ["--apply", place / "out", "--predictions", place / "predictions.npz", "--out", tmp_path / "a.csv"]
    for options in (["--ensemble", "single"], ["--thresholds", "half"], ["--max-members", 3]):
        assert f"{options[0]}: was decided when the ensemble was made" in refused(*apply, *options)
    choose = ["--predictions", place / "predictions.npz", "--out", tmp_path / "b"]
    assert "--probabilities: works only with --apply" in refused(*choose, "--probabilities", tmp_path / "p.csv")
    assert "did you mean 'greedy'" in refused(*choose, "--ensemble", "gredy")
    assert "--max-members" in refused(*choose, "--max-members", 51)
    assert "Missing option '--predictions'" in refused("--out", tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_faults_are_one_message(made, npz, drawn, tmp_path):
    place, _ = made
    assert "add --logits" in refused("--predictions", npz(good=drawn()["good"] * 9), "--out", tmp_path / "b")
    assert "No such file" in refused("--predictions", tmp_path / "none.npz", "--out", tmp_path / "b")
    assert "holds files that are not an ensemble's" in refused("--predictions", npz(), "--out", place)
    broken = shutil.copytree(place / "out", tmp_path / "broken")
    (broken / "ensemble.json").write_text("{}")
    assert "models: missing" in refused("--apply", broken, "--predictions", npz(), "--out", tmp_path / "a.csv")
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "a.csv"
    assert "file" in refused("--apply", place / "out", "--predictions", npz(), "--out", below)


def test_logits(made, npz, drawn, tmp_path):
    arrays = {name: 9 * (array - 0.5) for name, array in drawn().items() if name in ("good", "fair", "noise")}
    result = run(
        "--predictions", npz(**arrays), "--out", tmp_path / "b", "--logits", "--ensemble", "single", "--thresholds", "half"
    )
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "b" / "estimate.json").read_text())["thresholds"] == "half"
