import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.search.lines import PRIOR, Line

scores = st.floats(allow_nan=False, allow_infinity=False)


def fitted(pairs):
    line = Line()
    for lower, higher in pairs:
        line.add(lower, higher)
    return line


def test_before_the_first_trial_a_score_stays_as_it_is():
    assert Line().at(0.3) == 0.3


def test_one_trial_gives_the_gain_of_an_epoch():
    assert fitted([(0.2, 0.5)]).at(0.3) == pytest.approx(0.6)


def test_many_trials_give_the_slope():
    pairs = [(x / 100, 0.3 + 0.5 * x / 100) for x in range(100)]
    assert fitted(pairs).at(0.5) == pytest.approx(0.55, abs=0.01)
    slope = fitted(pairs).at(1.0) - fitted(pairs).at(0.0)
    assert slope == pytest.approx((0.5 * 100 + PRIOR) / (100 + PRIOR))


@pytest.mark.parametrize(("higher", "slope"), [(lambda x: 1 - x, 0.2), (lambda x: 9 * x, 2.0)])
def test_a_better_score_stays_better_and_no_slope_is_extreme(higher, slope):
    line = fitted([(x / 100, higher(x / 100)) for x in range(100)])
    assert line.at(1.0) - line.at(0.0) == pytest.approx(slope)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=20), st.randoms(use_true_random=False), scores)
def test_any_finite_scores_give_a_finite_score_in_any_order_does_not_matter(pairs, shuffler, lower):
    shuffled = list(pairs)
    shuffler.shuffle(shuffled)
    assert math.isfinite(fitted(pairs).at(lower))
    assert fitted(pairs).at(lower) == fitted(shuffled).at(lower)
