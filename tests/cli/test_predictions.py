"""ensemble and predict: what the options mean together. tests/predictions/test_command.py has the whole of `ensemble`."""

import numpy as np
import pytest


@pytest.fixture
def predictions(tmp_path):
    """A file with the logits of two models on 60 rows."""
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 28)) < 0.3).astype(np.uint8)
    labels[np.arange(60), rng.integers(0, 28, 60)] = 1
    ids = np.array([f"id{row:02}" for row in range(60)])
    models = {name: (4.0 * labels - 2 + rng.normal(size=labels.shape)).astype(np.float32) for name in ("first", "second")}
    np.savez(tmp_path / "predictions.npz", ids=ids, labels=labels, **models)
    return tmp_path / "predictions.npz"


def test_an_ensemble_is_made_and_applied(hpa, predictions, tmp_path):
    made = hpa(
        "ensemble", "--predictions", predictions, "--out", tmp_path / "made", "--logits",
        "--ensemble", "uniform", "--thresholds", "half", "--max-members", 2,
    )  # fmt: skip
    assert "Nested macro F1: " in made
    given = ("ensemble", "--apply", tmp_path / "made", "--predictions", predictions, "--out", tmp_path / "labels.csv")
    assert f"60 rows labelled in {tmp_path / 'labels.csv'}." in hpa(*given, "--logits")
    assert (tmp_path / "labels.csv").read_text().startswith("Id,Predicted\nid00,")


def test_values_outside_0_to_1_may_be_logits(hpa, predictions, tmp_path):
    assert "--logits" in hpa("ensemble", "--predictions", predictions, "--out", tmp_path / "made", code=2)


def test_options_belong_to_making_or_to_applying(hpa, predictions, tmp_path):
    given = ("ensemble", "--predictions", predictions, "--out", tmp_path / "x")
    assert "--probabilities: works only with --apply" in hpa(*given, "--probabilities", tmp_path / "p.csv", code=2)
    said = hpa(*given, "--apply", tmp_path / "made", "--ensemble", "greedy", "--max-members", 3, code=2)
    assert "--ensemble" in said and "--max-members" in said and "leave it out beside --apply" in said


def test_a_bundle_must_be_there(hpa, phantom, tmp_path):
    assert str(tmp_path / "missing") in hpa("predict", tmp_path / "missing", phantom, "--out", tmp_path / "labels.csv", code=2)
    assert not (tmp_path / "labels.csv").exists()
