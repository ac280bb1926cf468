import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.special import expit

from hpa_search.scoring.calibration import Platt, fit_platt
from hpa_search.scoring.partial_pooling import _FREE, RIDGE_OFFSET, RIDGE_SLOPE, PooledFit, calibrate, shared_map
from tests.scoring.samples import alike, known_map, miscalibrated, odd_inputs, seeds


def profile_gradient(z, y, slope, shared):
    """Slope and offset gradient of the joint loss at the best offsets of the classes, each found by bisection."""
    offsets = np.array(
        [
            brentq(
                lambda b, c=c: (expit(slope * z[:, c] + b) - y[:, c]).sum() + RIDGE_OFFSET * (b - shared), -1e3, 1e3, xtol=1e-13
            )
            for c in range(z.shape[1])
        ]
    )
    return ((expit(slope * z + offsets) - y) * z).sum(), RIDGE_OFFSET * (shared - offsets).sum()


@settings(max_examples=25)
@given(seeds, st.integers(20, 300), st.integers(1, 6), st.sampled_from([0.3, 1.0, 4.0]))
def test_the_shared_map_is_a_stationary_point_of_the_joint_loss(seed, rows, classes, factor):
    z, y = alike(seed, rows, classes)
    slope, shared = shared_map(factor * z.T, y)
    middle, unit = factor * z.mean(), factor * z.std()
    slope, shared = slope * unit, shared + slope * middle
    along, across = profile_gradient((factor * z - middle) / unit, y, slope, shared)
    # What is left is the pull that keeps separable classes finite, on standardised logits.
    assert slope == 0.01 or along == pytest.approx(-classes * _FREE * (slope - 1), abs=1e-6)
    assert slope == 0.01 or across == pytest.approx(-_FREE * shared, abs=1e-6)


@settings(max_examples=25)
@given(seeds, st.integers(2, 300), st.booleans())
def test_no_other_map_around_the_shared_one_has_a_lower_loss(seed, rows, odd):
    z, y = (miscalibrated if odd else alike)(seed, rows, 3)
    fit = PooledFit.of(z, y)
    u = fit.shared[0] * z + fit.shared[1]
    for c in range(3):

        def loss(x, c=c):
            v = x[0] * u[:, c] + x[1]
            return (np.logaddexp(0, v) - y[:, c] * v).sum() + RIDGE_SLOPE / 2 * (x[0] - 1) ** 2 + RIDGE_OFFSET / 2 * x[1] ** 2

        best = minimize(loss, [1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (None, None)]).fun
        assert loss([fit.around.slope[c], fit.around.offset[c]]) <= best + 1e-9 * (1 + abs(best))


def test_gradient_vanishes_at_the_fit():
    z, y = alike(5)
    fit = PooledFit.of(z, y)
    u, error = fit.shared[0] * z + fit.shared[1], fit.platt.probabilities(z) - y
    assert (fit.around.slope > 0).all()
    assert np.abs((error * u).sum(axis=0) + RIDGE_SLOPE * (fit.around.slope - 1)).max() < 1e-8
    assert np.abs(error.sum(axis=0) + RIDGE_OFFSET * fit.around.offset).max() < 1e-8


@settings(max_examples=30)
@given(seeds, st.floats(0.05, 4), st.floats(-5, 5))
def test_logits_that_are_scaled_and_shifted_give_the_same_probabilities(seed, factor, shift):
    z, y = alike(seed, rows=200)
    moved = factor * z + shift
    expected = calibrate(z, y).probabilities(z)
    np.testing.assert_allclose(calibrate(moved, y).probabilities(moved), expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(PooledFit.of(moved, y).moderated(), PooledFit.of(z, y).moderated(), rtol=0, atol=1e-7)


@settings(max_examples=25)
@given(seeds, st.randoms(use_true_random=False))
def test_order_of_rows_and_classes_does_not_matter(seed, random):
    z, y = miscalibrated(seed, rows=100)
    rows, classes = random.sample(range(100), 100), random.sample(range(4), 4)
    fit, other = calibrate(z, y), calibrate(z[rows][:, classes], y[rows][:, classes])
    np.testing.assert_allclose(other.slope, fit.slope[classes], atol=1e-7)
    np.testing.assert_allclose(other.offset, fit.offset[classes], atol=1e-7)


@settings(max_examples=25)
@given(seeds)
def test_where_it_starts_does_not_matter(seed):
    z, y = alike(seed, rows=150)
    fit = calibrate(z, y)
    for start in (calibrate(z[20:], y[20:]), Platt(np.full(5, 0.2), np.full(5, 3.0)), Platt(np.zeros(5), np.zeros(5))):
        other = calibrate(z, y, start)
        np.testing.assert_allclose(other.slope, fit.slope, atol=1e-8)
        np.testing.assert_allclose(other.offset, fit.offset, atol=1e-8)


def test_a_rare_class_takes_its_slope_from_the_others():
    alone, pooled = [], []
    for seed in range(12):
        z, y = alike(seed, rows=1500, classes=8, lower=2.5)
        alone.append(fit_platt(z, y, ridge_slope=1e-3).slope[0])
        pooled.append(calibrate(z, y).slope[0])
    assert np.std(pooled) < 0.5 * np.std(alone)
    assert np.mean(pooled) == pytest.approx(2.5, abs=0.5)


def test_with_many_rows_each_class_has_its_own_map():
    z, labels, slope, offset = known_map()
    platt = calibrate(z, labels)
    np.testing.assert_allclose(platt.slope, slope, rtol=0.05)
    np.testing.assert_allclose(platt.offset, offset, atol=0.07)


def test_moderation_counts_the_spread_of_slope_and_offset():
    """Against the Laplace approximation written out: the inverse Hessian by finite differences of the gradient."""
    z, y = alike(3, rows=80, classes=2)
    fit = PooledFit.of(z, y)
    u = fit.shared[0] * z + fit.shared[1]
    for c in range(2):
        at = np.array([fit.around.slope[c], fit.around.offset[c]])

        def gradient(x, c=c):
            error = expit(x[0] * u[:, c] + x[1]) - y[:, c]
            return np.array([(error * u[:, c]).sum() + RIDGE_SLOPE * (x[0] - 1), error.sum() + RIDGE_OFFSET * x[1]])

        hessian = np.stack([(gradient(at + step) - gradient(at - step)) / 2e-5 for step in 1e-5 * np.eye(2)])
        design = np.stack([u[:, c], np.ones(len(u))], axis=1)
        variance = np.einsum("ni,ij,nj->n", design, np.linalg.inv(hessian), design)
        expected = expit(design @ at / np.sqrt(1 + np.pi / 8 * variance))
        np.testing.assert_allclose(fit.moderated()[:, c], expected, atol=1e-6)


def test_moderation_is_for_classes_with_few_positives():
    z, y = alike(1, rows=3000, classes=4, lower=3.0)
    assert 1 <= y[:, 0].sum() <= 5
    y[:, 1] = False
    fit = PooledFit.of(z, y)
    plain, careful = fit.platt.probabilities(z), fit.moderated()
    np.testing.assert_allclose(careful[:, 1], plain[:, 1], rtol=1e-9)
    more = careful.sum(axis=0) / plain.sum(axis=0)
    assert more[0] > 1.1
    assert more[2:] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("case", odd_inputs())
def test_odd_inputs_give_a_map(case):
    z, y = odd_inputs()[case]
    fit = PooledFit.of(z, y)
    p = fit.platt.probabilities(z)
    assert (fit.platt.slope >= 0).all()
    assert np.isfinite(fit.moderated()).all()
    # The prior pulls the number of claims away from the number of positives by a few, and by no more.
    np.testing.assert_allclose(p.sum(axis=0), y.sum(axis=0), atol=10)


def test_scores_worse_than_chance_are_all_but_ignored():
    z = np.random.default_rng(0).normal(0, 2, (500, 3))
    p = calibrate(z, z < -1).probabilities(z)
    assert np.ptp(p, axis=0).max() < 0.05


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="logits hold NaN"):
        calibrate([[np.nan], [0.0]], [[0], [1]])
    with pytest.raises(ValueError, match="shape"):
        calibrate([[0.0]], [[0], [1]])


def test_real_networks_are_wrong_about_all_classes_alike(real):
    """Why the classes share a prior: that of each class lies near the shared one, and the sums fit."""
    fit = PooledFit.of(real.logits[real.sound].mean(axis=0), real.labels)
    assert fit.around.slope.min() > 0.7 and fit.around.slope.max() < 1.4
    expected = fit.platt.probabilities(real.logits[real.sound].mean(axis=0)).sum(axis=0)
    np.testing.assert_allclose(expected, real.labels.sum(axis=0), atol=2)
