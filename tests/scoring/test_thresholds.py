import numpy as np
import pytest

from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.thresholds import DecisionRule, decide

RULE = DecisionRule(Platt([2.0, 0.5], [-1.0, 1.0]), [0.25, 0.75])


def test_decide_fills_empty_rows_with_the_likeliest_class():
    decision = decide([[0.2, 0.3], [0.6, 0.7], [0.1, 0.0]], [0.5, 0.9])
    assert decision.labels.tolist() == [[False, True], [True, False], [True, False]]
    assert decision.filled == 2


@pytest.mark.parametrize(
    ("p", "thresholds", "message"),
    [
        ([[np.nan]], [0.5], "NaN"),
        ([[0.5]], [0.5, 0.5], "do not fit"),
        ([[1.5]], [0.5], "outside"),
        ([[0.5]], [np.nan], "do not fit"),
    ],
)
def test_decide_refuses_wrong_arrays(p, thresholds, message):
    with pytest.raises(ValueError, match=message):
        decide(p, thresholds)


def test_rows_below_every_threshold_stay_empty_where_only_some_labels_are_looked_at():
    decision = decide([[0.1, 0.2], [0.6, 0.2]], [0.5, 0.5], fill=False)
    assert decision.labels.tolist() == [[False, False], [True, False]]
    assert decision.filled == 0


def test_one_row_and_one_class():
    assert decide([[0.2]], [0.5]).labels.tolist() == [[True]]
    assert decide([[0.5]], [0.5]).filled == 0


def test_classes_without_a_threshold_that_can_be_reached_are_the_likeliest_all_the_same():
    decision = decide([[0.2, 0.2], [0.3, 0.9]], [1.0, 1.0])
    assert decision.labels.tolist() == [[True, False], [False, True]]


def test_rule_is_calibration_then_thresholds():
    z = np.random.default_rng(0).normal(0, 3, (50, 2))
    p = RULE.platt.probabilities(z)
    np.testing.assert_array_equal(RULE.probabilities(z), p)
    decided, expected = RULE.predict(z), decide(p, [0.25, 0.75])
    np.testing.assert_array_equal(decided.labels, expected.labels)
    assert decided.filled == expected.filled > 0
    unfilled = DecisionRule(RULE.platt, RULE.thresholds, fill=False).predict(z)
    assert (~unfilled.labels.any(axis=1)).sum() == decided.filled


def test_rule_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        RULE.thresholds[0] = 0.1


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.5], "1 thresholds but a calibration of 2"),
        ([0.5, 1.5], "between 0 and 1"),
        ([0.5, float("inf")], "finite"),
    ],
)
def test_thresholds_that_are_none_are_refused(thresholds, message):
    with pytest.raises(ValueError, match=message):
        DecisionRule(RULE.platt, thresholds)


def test_thresholds_are_brought_to_the_bounds_that_they_miss_by_rounding():
    platt = Platt(np.ones(3), np.zeros(3))
    assert DecisionRule(platt, np.array([-1e-18, 0.5, 1.0000001])).thresholds.tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match="'thresholds' must lie between 0 and 1: 1.00001 lies outside"):
        DecisionRule(platt, np.array([0, 0.5, 1.00001]))
