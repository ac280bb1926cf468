import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from hpa_search.scoring.cuts import exact, plug_in
from hpa_search.scoring.metrics import macro_f1
from hpa_search.scoring.partial_pooling import PooledFit
from hpa_search.scoring.rules import fit_rule
from tests.scoring.samples import alike, claimed, seeds


@pytest.mark.parametrize("seed", range(5))
def test_it_cuts_where_the_moderated_probabilities_say(seed):
    z, labels = alike(seed, lower=1.5)
    labels[0] = True
    fit, rule = PooledFit.of(z, labels), fit_rule(z, labels, name="plug_in")
    np.testing.assert_array_equal(rule.platt.slope, fit.platt.slope)
    careful = fit.moderated()
    np.testing.assert_array_equal(claimed(rule, z), careful >= plug_in(careful))


@settings(max_examples=25)
@given(seeds, st.floats(0.1, 4), st.floats(-5, 5))
def test_the_default_does_not_mind_scaled_and_shifted_logits(seed, factor, shift):
    z, labels = alike(seed, rows=150)
    moved = factor * z + shift
    rule, other = fit_rule(z, labels), fit_rule(moved, labels)
    np.testing.assert_allclose(other.thresholds, rule.thresholds, atol=1e-6)
    np.testing.assert_allclose(other.probabilities(moved), rule.probabilities(z), atol=1e-6)


def test_a_plug_in_cut_below_all_rows_keeps_its_distance():
    """A class that nearly all rows carry is claimed for rows a little below those that it was fitted to, too."""
    z, labels = alike(4)
    labels[:, 1] = True
    rule = fit_rule(z, labels)
    lowest = z[z[:, 1].argmin()].copy()
    lowest[1] -= 0.2
    assert claimed(rule, lowest[None])[0, 1]


def test_the_default_is_near_the_best_on_fresh_rows():
    z, labels = alike(0, rows=22_000, classes=6)
    fit, fresh = slice(0, 2000), slice(2000, None)
    p = expit(z[fresh])
    oracle = macro_f1(p >= exact(p, labels[fresh]), labels[fresh])
    rule = fit_rule(z[fit], labels[fit])
    assert macro_f1(claimed(rule, z[fresh]), labels[fresh]) > oracle - 0.01
    # Without the calibration the same thresholds mean nothing.
    assert macro_f1(p >= plug_in(expit(z[fit])), labels[fresh]) < oracle - 0.02
