import numpy as np
import pytest

from hpa_search.bundle.onnx_check import CLOSE, compare
from hpa_search.errors import UserError
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.thresholds import DecisionRule


def rule(fill=True):
    return DecisionRule(Platt(np.ones(3), np.zeros(3)), np.full(3, 0.5), fill)


EXPECTED = np.array([[0.9, 0.1, 0.2], [0.4, 0.3, 0.1]])
LABELS = np.array([[True, False, False], [True, False, False]])


def test_what_agrees_gives_the_largest_difference():
    assert compare(rule(), EXPECTED, (EXPECTED + 5e-5).astype(np.float32), LABELS) == pytest.approx(5e-5, rel=1e-2)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.9002])
def test_a_probability_that_differs_is_refused(wrong):
    found = EXPECTED.astype(np.float32)
    found[0, 0] = wrong
    with pytest.raises(UserError, match="probabilities differ by"):
        compare(rule(), EXPECTED, found, LABELS)


@pytest.mark.parametrize("place", [(0, 0), (0, 2), (1, 0), (1, 1)])
def test_a_label_that_differs_is_refused(place):
    labels = LABELS.copy()
    labels[place] ^= True
    with pytest.raises(UserError, match="1 of its labels differ"):
        compare(rule(), EXPECTED, EXPECTED.astype(np.float32), labels)


def test_near_its_threshold_a_label_may_differ_and_so_may_what_is_filled_for_it():
    expected = EXPECTED.copy()
    expected[1, 1] = 0.5 - CLOSE / 2
    labels = LABELS.copy()
    for row in ([False, True, False], [True, False, False]):
        labels[1] = row
        compare(rule(), expected, expected.astype(np.float32), labels)
    with pytest.raises(UserError, match="1 of its labels differ"):
        compare(rule(fill=False), expected, expected.astype(np.float32), labels)


def test_of_two_likeliest_either_may_fill_a_row():
    expected = EXPECTED.copy()
    expected[1, 1] = 0.4 - CLOSE / 2
    labels = LABELS.copy()
    labels[1] = [False, True, False]
    compare(rule(), expected, expected.astype(np.float32), labels)
