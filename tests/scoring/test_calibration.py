import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from hpa_search.scoring.calibration import Platt, as_probabilities, fit_platt, logit
from tests.scoring.samples import known_map, miscalibrated, odd_inputs, seeds


def penalised_loss(z, y, slope, offset, ridge_slope=1.0, ridge_offset=1.0):
    u = slope * z + offset
    return (np.logaddexp(0, u) - y * u).sum() + ridge_slope / 2 * (slope - 1) ** 2 + ridge_offset / 2 * offset**2


@settings(max_examples=40)
@given(seeds, st.integers(1, 80), st.sampled_from([1e-3, 1.0, 30.0, 1e4]))
def test_no_other_map_has_a_lower_loss(seed, rows, spread):
    z, y = miscalibrated(seed, rows, 3, spread)
    y[:, 0] = seed % 2
    platt = fit_platt(z, y)
    for c, column in enumerate(np.clip(z, -50, 50).T):

        def loss(x, column=column, c=c):
            return penalised_loss(column, y[:, c], *x)

        found = loss([platt.slope[c], platt.offset[c]])
        best = minimize(loss, [1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (None, None)]).fun
        assert found <= best + 1e-9 * (1 + abs(best))
        assert platt.slope[c] >= 0


def test_gradient_vanishes_at_the_fit():
    z, y = miscalibrated(5)
    platt = fit_platt(z, y, ridge_slope=3.0, ridge_offset=0.7)
    error = platt.probabilities(z) - y
    free = platt.slope > 0
    assert np.abs((error * z).sum(axis=0) + 3.0 * (platt.slope - 1))[free].max() < 1e-8
    assert np.abs(error.sum(axis=0) + 0.7 * platt.offset).max() < 1e-8


def test_finds_the_map_that_made_the_labels():
    z, labels, slope, offset = known_map()
    platt = fit_platt(z, labels)
    np.testing.assert_allclose(platt.slope, slope, rtol=0.05)
    np.testing.assert_allclose(platt.offset, offset, atol=0.07)


def test_few_rows_stay_near_identity():
    platt = fit_platt([[1.0]], [[1]], ridge_slope=1e6, ridge_offset=1e6)
    np.testing.assert_allclose([platt.slope[0], platt.offset[0]], [1, 0], atol=1e-5)


def test_class_without_positives_keeps_its_order_and_sinks():
    z = np.random.default_rng(1).normal(-2, 2, (2000, 2))
    labels = np.zeros(z.shape, dtype=bool)
    labels[:, 1] = True
    platt = fit_platt(z, labels)
    p = platt.probabilities(z)
    assert platt.slope[0] > 0
    # Stationarity in the offset: the probabilities sum to ridge * |offset|.
    assert p[:, 0].sum() == pytest.approx(-platt.offset[0], abs=1e-8)
    assert p[:, 0].sum() < 10
    assert (1 - p[:, 1]).sum() < 10


def test_score_worse_than_chance_becomes_a_constant():
    z = np.linspace(-3, 3, 300)[:, None]
    platt = fit_platt(z, z < -1)
    assert platt.slope[0] == 0
    assert np.unique(platt.probabilities(z)).size == 1
    assert platt.probabilities(z)[0, 0] == pytest.approx(1 / 3, abs=0.01)


def test_order_of_rows_and_start_do_not_matter():
    z, y = miscalibrated(7)
    platt = fit_platt(z, y)
    order = np.random.default_rng(0).permutation(len(z))
    for other in (fit_platt(z[order], y[order]), fit_platt(z, y, start=Platt(np.full(4, 0.2), np.full(4, 3.0)))):
        np.testing.assert_allclose(other.slope, platt.slope, atol=1e-8)
        np.testing.assert_allclose(other.offset, platt.offset, atol=1e-8)


def test_classes_do_not_touch_each_other():
    z, y = miscalibrated(8)
    together = fit_platt(z, y)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(fit_platt(z[:, order], y[:, order]).slope, together.slope[order], atol=1e-9)
    for c in range(4):
        alone = fit_platt(z[:, [c]], y[:, [c]])
        assert alone.slope[0] == pytest.approx(together.slope[c], abs=1e-9)


@pytest.mark.parametrize("case", odd_inputs())
def test_odd_inputs_end_at_the_minimum(case):
    z, y = odd_inputs()[case]
    platt = fit_platt(z, y)
    error = platt.probabilities(z) - y
    assert np.abs(error.sum(axis=0) + platt.offset).max() < 1e-6 * len(z)
    along = (error * np.clip(z.astype(np.float64), -50, 50)).sum(axis=0) + platt.slope - 1
    assert np.abs(along[platt.slope > 0]).max(initial=0) < 1e-5 * len(z)
    assert along[platt.slope == 0].min(initial=0) >= 0


def test_huge_and_infinite_logits_are_clipped():
    z = np.array([[np.inf], [-np.inf], [7e4], [-7e4]])
    platt = fit_platt(z, [[1], [0], [1], [0]])
    assert np.isfinite(platt.probabilities(z)).all()


def test_half_precision_logits():
    z, y = miscalibrated(9)
    np.testing.assert_allclose(fit_platt(z.astype(np.float16), y).slope, fit_platt(z, y).slope, atol=1e-2)


@pytest.mark.parametrize(
    ("logits", "ridge", "message"),
    [([[np.nan], [0.0]], 1.0, "logits hold NaN"), ([[0.0]], 1.0, "shape"), ([[0.0], [1.0]], 0.0, "positive")],
)
def test_wrong_input_is_refused(logits, ridge, message):
    with pytest.raises(ValueError, match=message):
        fit_platt(logits, [[0], [1]], ridge_slope=ridge)


def test_probabilities_refuse_another_number_of_classes():
    with pytest.raises(ValueError, match="2 classes"):
        Platt([1, 1], [0, 0]).probabilities(np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("slope", "offset", "message"),
    [
        ([1.0], [0.0, 1.0], "1 slopes but 2 offsets"),
        ([-1.0], [0.0], "negative"),
        ([float("nan")], [0.0], "'slope' must be a list of finite"),
        (1.0, [0.0], "'slope' must be a list of finite"),
        ([], [], "finite numbers, one a class"),
    ],
)
def test_a_map_that_is_none_is_refused(slope, offset, message):
    with pytest.raises(ValueError, match=message):
        Platt(slope, offset)


def test_platt_cannot_be_changed():
    platt = Platt([1.0], [0.0])
    with pytest.raises(ValueError, match="read-only"):
        platt.slope[0] = 2
    with pytest.raises(AttributeError):
        platt.slope = np.ones(1)


def test_logit_inverts_sigmoid_and_stays_finite():
    z = np.linspace(-15, 15, 31)
    np.testing.assert_allclose(logit(expit(z)), z, atol=1e-8)
    ends = logit(np.array([0.0, 1.0], dtype=np.float32))
    np.testing.assert_allclose(ends, [-16.118, 16.118], atol=1e-3)


@pytest.mark.parametrize(
    ("p", "message"), [([[1.5]], "outside 0 to 1"), ([[-0.1]], "outside 0 to 1"), ([[np.nan]], "probabilities hold NaN")]
)
def test_wrong_probabilities_are_refused(p, message):
    for read in (logit, as_probabilities):
        with pytest.raises(ValueError, match=message):
            read(p)


def test_probabilities_and_slopes_are_brought_to_the_bounds_that_they_miss_by_rounding():
    assert logit(np.array([1.0000001, -1e-9], dtype=np.float32)).tolist() == logit([1, 0]).tolist()
    with pytest.raises(ValueError, match="outside 0 to 1 .1.0001 lies"):
        logit([0.5, 1.0001])
    assert Platt(np.array([-1e-18, 1]), np.zeros(2)).slope.tolist() == [0, 1]
    with pytest.raises(ValueError, match="'slope' must not be negative .-1e-06"):
        Platt(np.array([-1e-6, 1]), np.zeros(2))
