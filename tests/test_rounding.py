import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.rounding import SHARES, alike, digits, digits_outside, in_unit, outside_unit, settled, spare, sum_fault


@pytest.mark.parametrize(
    ("value", "low", "high", "found"),
    [
        (1.0000000000000002, 0, 1, 1),
        (-1e-18, 0, 1, 0),
        (-1e-18, 0, None, 0),
        (0.010000000000000002, 1e-4, 1e-2, 1e-2),
        (9.999999999999999e-05, 1e-4, 1e-2, 1e-4),
        (1.0000001, 0, 1, 1.0000001),
        (-1e-6, 0, 1, -1e-6),
        (0.99e-4, 1e-4, 1e-2, 0.99e-4),
        (9.9999e-7, 1e-6, 1, 9.9999e-7),
        (0.5, 0, 1, 0.5),
        (7.0, None, None, 7.0),
    ],
)
def test_a_value_that_rounding_moved_beyond_its_bound_is_at_the_bound(value, low, high, found):
    assert settled(value, low, high) == found


@given(st.floats(1e-300, 1e300), st.integers(-3, 3))
def test_some_steps_beyond_a_bound_are_rounding_and_a_millionth_is_not(bound, steps):
    value = bound
    for _ in range(abs(steps)):
        value = math.nextafter(value, math.inf if steps > 0 else 0)
    assert settled(value, bound, None) >= bound and settled(value, None, bound) <= bound
    assert alike(value, bound) and not alike(bound * (1 + 1e-6), bound)
    assert settled(bound * (1 + 1e-6), None, bound) == bound * (1 + 1e-6)


@pytest.mark.parametrize(
    ("shares", "slack", "fault"),
    [
        ((0.7, 0.15, 0.15), None, ""),
        ((0.1,) * 10, None, ""),
        ((0.7, 0.15, 0.15000001), None, ""),
        ((0.333333,) * 3, None, ""),
        ((0.7, 0.15, 0.150002), None, "1.000002"),
        ((0.3333,) * 3, None, "0.9999"),
        ((0.3333,) * 3, SHARES, ""),
        ((0.333,) * 3, SHARES, ""),
        ((0.33,) * 3, SHARES, "0.99"),
        ((0.5, math.nan), SHARES, "nan"),
    ],
)
def test_a_sum_that_is_not_1_is_shown_with_its_digits(shares, slack, fault):
    assert (sum_fault(shares) if slack is None else sum_fault(shares, slack)) == fault


@pytest.mark.parametrize(
    ("dtype", "taken", "refused"),
    [
        (np.float16, [1.001, 1.002, -0.001], [1.004, -0.004]),
        (np.float32, [1.0000001, 1.000002, -1e-6], [1.00001, -1e-5]),
        (np.float64, [1 + 1e-12, 1.000002, -2e-6], [1.0000021, -3e-6]),
    ],
)
def test_an_array_has_the_room_that_its_type_needs(dtype, taken, refused):
    slack = spare(np.dtype(dtype))
    inside = np.array([0, 0.5, 1, *taken], dtype=dtype)
    assert not outside_unit(inside, slack).any()
    assert in_unit(inside, slack).dtype == dtype and in_unit(inside, slack).max() == 1 and in_unit(inside, slack).min() == 0
    for value in refused:
        assert outside_unit(np.array([0.5, value], dtype=dtype), slack).tolist() == [False, True]
        with pytest.raises(ValueError, match=f"{digits_outside(dtype(value))} lies outside 0 to 1"):
            in_unit(np.array([0.5, value], dtype=dtype), slack)


def test_whole_numbers_and_nothing_at_all():
    assert outside_unit(np.array([0, 1, 2], dtype=np.uint8), spare(np.dtype(np.uint8))).tolist() == [False, False, True]
    assert in_unit(np.empty((0, 28)), 0.0).shape == (0, 28)


def test_the_digits_shown_are_those_that_are_wrong():
    assert digits(1.0000000000000002) == "1.0000000000000002" and digits(np.float32(1.0000021)) == "1.0000021"
    assert digits_outside(np.float64(-1.7485395578132135)) == "-1.74854"
    assert digits_outside(1.00000001) == "1.00000001" and digits_outside(np.uint8(37)) == "37" and digits_outside(7.0) == "7"
