import json

import numpy as np
import pytest
from pydantic import ValidationError

from hpa_search.config import Record
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.records import Calibration, Rule, check_weights, combined
from hpa_search.scoring.thresholds import DecisionRule


class Part(Record):
    weight: float
    map: Calibration


def flat(slope, offset=0.0):
    return Platt(np.full(28, slope), np.full(28, offset))


@pytest.fixture
def rule():
    rng = np.random.default_rng(0)
    return DecisionRule(Platt(rng.random(28), rng.normal(size=28)), rng.random(28), fill=False)


def content(rule):
    """Return a rule as the files written so far have it."""
    platt = {"slope": rule.platt.slope.tolist(), "offset": rule.platt.offset.tolist()}
    return {"platt": platt, "thresholds": rule.thresholds.tolist(), "fill": rule.fill}


def test_a_rule_is_read_back_from_its_json_to_the_last_bit(rule):
    found = Rule.model_validate_json(Rule.of(rule).model_dump_json()).decision
    for name in ("slope", "offset"):
        np.testing.assert_array_equal(getattr(found.platt, name), getattr(rule.platt, name))
    np.testing.assert_array_equal(found.thresholds, rule.thresholds)
    assert found.fill is False


def test_its_json_is_that_of_the_files_written_so_far(rule):
    assert json.loads(Rule.of(rule).model_dump_json()) == content(rule)
    assert json.loads(Calibration.of(rule.platt).model_dump_json()) == content(rule)["platt"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thresholds": [0.5] * 27}, "27 thresholds but a calibration of 28"),
        ({"thresholds": [0.5] * 27 + [1.5]}, "'thresholds' must lie between 0 and 1: 1.5"),
        ({"thresholds": [0.5] * 27 + [None]}, "thresholds.27"),
        ({"fill": 1}, "fill"),
        ({"platt": {"slope": [1.0] * 27, "offset": [0.0] * 28}}, "27 slopes but 28 offsets"),
        ({"platt": {"slope": [1.0] * 27, "offset": [0.0] * 27}}, "27 slopes; expected 28"),
        ({"platt": {"slope": [-1.0] * 28, "offset": [0.0] * 28}}, "'slope' must not be negative"),
        ({"platt": {"slope": [1.0] * 28}}, "platt.offset"),
        ({"further": 1}, "further"),
    ],
)
def test_what_defines_no_rule_is_refused(rule, change, words):
    with pytest.raises(ValidationError, match=words):
        Rule.model_validate_json(json.dumps({**content(rule), **change}))


def test_numbers_that_rounding_moved_beyond_their_bounds_are_at_the_bounds(rule):
    content = {"platt": {"slope": [-1e-18] + [1] * 27, "offset": [0] * 28}, "thresholds": [1.0000001] + [0.5] * 27, "fill": True}
    found = Rule.model_validate_json(json.dumps(content)).decision
    assert (found.platt.slope[0], found.thresholds[0]) == (0.0, 1.0)


def test_an_ensemble_is_the_weighted_mean_of_mapped_logits(rule):
    parts = [Part(weight=0.25, map=Calibration.of(flat(2.0))), Part(weight=0.75, map=Calibration.of(flat(1.0, 0.5)))]
    logits = np.random.default_rng(1).normal(size=(2, 6, 28))
    found = combined(parts, Rule.of(rule))
    np.testing.assert_allclose(found.logits(logits), 0.5 * logits[0] + 0.75 * (logits[1] + 0.5))
    covers = np.ones((2, 28), dtype=bool)
    covers[0, 3] = False
    np.testing.assert_allclose(combined(parts, Rule.of(rule), covers).logits(logits)[:, 3], logits[1, :, 3] + 0.5)


def test_weights_add_up_to_one():
    half = Part(weight=0.5, map=Calibration.of(flat(1.0)))
    check_weights("members", [half, half])
    with pytest.raises(ValueError, match="^members: the weights do not add up to 1, but to 1.5$"):
        check_weights("members", [half] * 3)
