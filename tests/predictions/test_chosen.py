import json

import numpy as np
import pytest

from hpa_search.errors import UserError
from hpa_search.labels import LABELS
from hpa_search.predictions.chosen import CHOSEN, Chosen, Model, read_chosen, write_chosen
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.records import Calibration, Rule
from hpa_search.scoring.thresholds import DecisionRule


def flat(slope):
    return Calibration.of(Platt(np.full(28, slope), np.full(28, 0.5)))


@pytest.fixture
def chosen():
    rng = np.random.default_rng(0)
    rule = DecisionRule(Platt(rng.random(28), rng.normal(size=28)), rng.random(28))
    models = (
        Model(name="a", weight=0.3, map=flat(0.4)),
        Model(name="b", weight=0.0, map=flat(1.0)),
        Model(name="c", weight=0.7, map=flat(10.0)),
    )
    return Chosen(
        format=1,
        version="0",
        labels=LABELS,
        ensemble="greedy",
        thresholds="plug_in",
        models=models,
        rule=Rule.of(rule),
    )


def test_what_is_written_is_read_back_exactly(tmp_path, chosen):
    write_chosen(tmp_path, chosen)
    found = read_chosen(tmp_path)
    assert found == chosen
    assert [model.name for model in found.members] == ["a", "c"]
    logits = np.random.default_rng(1).normal(size=(2, 5, 28)).astype(np.float32)
    np.testing.assert_allclose(found.of_members.logits(logits), 0.3 * logits[0] * 0.4 + 0.7 * logits[1] * 10 + 0.5, rtol=1e-5)
    np.testing.assert_array_equal(found.decision_rule.thresholds, chosen.decision_rule.thresholds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("rule"), "rule: missing"),
        (lambda c: c.update(format=2), "format 2 is not known"),
        (lambda c: c.update(labels=c["labels"][::-1]), "labels: not those of this task"),
        (lambda c: c.update(extra=1), "extra: unknown key"),
        (lambda c: c.update(models=[]), "models: expected a list that is not empty"),
        (lambda c: c["models"][0].update(weight=-0.3), "models.0.weight"),
        (lambda c: c["models"][0].update(weight=0.4), "weights do not add up to 1"),
        (lambda c: c["models"][0].update(map={}), "models.0.map.slope: missing; expected a list of 28 numbers"),
        (lambda c: c["models"][0]["map"]["slope"].pop(), "models.0.map: 27 slopes but 28 offsets"),
        (lambda c: c["models"][0].update(map={"slope": [1], "offset": [0]}), "models.0.map: 1 slopes; expected 28"),
        (lambda c: c["models"][0].update(name="c"), "two have one name"),
        (lambda c: c["rule"].pop("thresholds"), "rule.thresholds: missing; expected a list of 28 numbers"),
        (lambda c: c["rule"]["thresholds"].pop(), "rule: 27 thresholds but a calibration of 28"),
        (lambda c: c["rule"]["thresholds"].__setitem__(0, 1.5), "'thresholds' must lie between 0 and 1"),
        (lambda c: c["rule"]["platt"]["slope"].__setitem__(0, -1), "'slope' must not be negative"),
        (lambda c: c["rule"].update(platt=None), "rule.platt: expected a mapping with slope, offset"),
        (
            lambda c: c.update(rule={"fill": True, "platt": {"slope": [1], "offset": [0]}, "thresholds": [0.5]}),
            "rule.platt: 1 slopes; expected 28",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_field(tmp_path, chosen, change, words):
    content = chosen.model_dump(mode="json")
    change(content)
    (tmp_path / CHOSEN).write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        read_chosen(tmp_path)
    assert words in str(caught.value) and str(tmp_path / CHOSEN) in str(caught.value)


def test_an_ensemble_that_was_written_before_is_read(tmp_path):
    """As its JSON was when the calibration and the rule were mappings of any content."""
    flat = {"slope": [0.5] * 28, "offset": [0.25] * 28}
    written = {
        "format": 1,
        "version": "0.1.0",
        "labels": list(LABELS),
        "ensemble": "greedy",
        "thresholds": "plug_in",
        "models": [{"name": "a", "weight": 1.0, "map": flat}, {"name": "b", "weight": 0.0, "map": flat}],
        "rule": {"platt": flat, "thresholds": [0.75] * 28, "fill": True},
    }
    (tmp_path / CHOSEN).write_text(json.dumps(written))
    found = read_chosen(tmp_path)
    assert json.loads(found.model_dump_json()) == written
    logits = np.ones((1, 2, 28))
    np.testing.assert_allclose(found.of_members.logits(logits), 0.75)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00", b"null"])
def test_what_is_no_ensemble_is_refused(tmp_path, content):
    with pytest.raises(UserError, match="holds no ensemble"):
        read_chosen(tmp_path)
    (tmp_path / CHOSEN).write_bytes(content)
    with pytest.raises(UserError, match="damaged or foreign"):
        read_chosen(tmp_path)


def test_a_byte_order_mark_is_no_fault_and_a_pointer_is_named(tmp_path, chosen):
    write_chosen(tmp_path, chosen)
    (tmp_path / CHOSEN).write_bytes(b"\xef\xbb\xbf" + (tmp_path / CHOSEN).read_bytes())
    assert read_chosen(tmp_path) == chosen
    (tmp_path / CHOSEN).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=f"{CHOSEN}: is a Git LFS pointer.*git lfs pull"):
        read_chosen(tmp_path)


@pytest.mark.parametrize("weights", [(0.3, 0.0, 0.7000001), (0.3000000001, -1e-18, 0.7), (1.0000000000000002, 0, 0)])
def test_weights_that_another_program_wrote_are_taken_within_rounding(tmp_path, chosen, weights):
    content = chosen.model_dump(mode="json")
    for model, weight in zip(content["models"], weights, strict=True):
        model["weight"] = weight
    (tmp_path / CHOSEN).write_text(json.dumps(content))
    found = read_chosen(tmp_path)
    assert [model.weight for model in found.models] == pytest.approx(weights, abs=1e-9)
    assert all(0 <= model.weight <= 1 for model in found.models)


def test_beyond_rounding_the_sum_is_shown_with_its_digits(tmp_path, chosen):
    content = chosen.model_dump(mode="json")
    content["models"][0]["weight"] = 0.300002
    (tmp_path / CHOSEN).write_text(json.dumps(content))
    with pytest.raises(UserError, match="models: the weights do not add up to 1, but to 1.000002"):
        read_chosen(tmp_path)
