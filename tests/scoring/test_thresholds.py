import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from hpa_search.scoring.calibration import Platt, logit
from hpa_search.scoring.metrics import f1_per_class, macro_f1
from hpa_search.scoring.thresholds import DecisionRule, cross_fitted, decide, exact, fit_rule, plug_in


def draw(seed, rows=60, classes=4, steps=None):
    """Random probabilities, rounded to 1/``steps`` to make ties, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.5, 2, (rows, classes))
    labels = rng.random(p.shape) < p
    return (np.round(p * steps) / steps if steps else p), labels


cases = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 4), st.sampled_from([None, 3, 10]))


def expected_f1(p, kept):
    return 2 * p[kept].sum() / max(kept.sum() + p.sum(), 1e-300)


@settings(max_examples=80, deadline=None)
@given(cases)
def test_plug_in_has_the_highest_expected_f1_of_all_cuts(case):
    p, _ = draw(*case)
    for column, threshold in zip(p.T, plug_in(p), strict=True):
        cuts = [expected_f1(column, column >= value) for value in np.unique(column)]
        assert expected_f1(column, column >= threshold) == pytest.approx(max([*cuts, 0.0]), abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(cases)
def test_exact_has_the_highest_f1_of_all_cuts(case):
    p, labels = draw(*case)
    found = f1_per_class(p >= exact(p, labels), labels)
    for c in np.flatnonzero(labels.any(axis=0)):
        cuts = [f1_per_class(p[:, [c]] >= value, labels[:, [c]])[0] for value in np.unique(p[:, c])]
        assert found[c] == pytest.approx(max(cuts), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(cases)
def test_order_of_rows_does_not_matter(case):
    p, labels = draw(*case)
    order = np.random.default_rng(0).permutation(len(p))
    np.testing.assert_array_equal(exact(p[order], labels[order]), exact(p, labels))
    np.testing.assert_allclose(plug_in(p[order]), plug_in(p), rtol=0, atol=1e-15)


def test_plug_in_by_hand():
    # sum p = 1.5; keeping 1: 1.8/2.5 = .72, keeping 2: 2.8/3.5 = .8, keeping 3: 3/4.5.
    assert plug_in([[0.9], [0.1], [0.5]])[0] == pytest.approx(0.3)
    # Nothing to drop: half of the smallest.
    assert plug_in([[0.8], [0.8]])[0] == pytest.approx(0.4)
    assert plug_in([[0.0], [0.0]])[0] == 1.0


def test_plug_in_is_half_the_best_f1():
    # Lipton, Elkan and Narayanaswamy 2014: the optimal threshold of calibrated probabilities is F*/2.
    p, labels = draw(0, rows=50_000, classes=3)
    thresholds = plug_in(p)
    best = f1_per_class(p >= thresholds, labels)
    np.testing.assert_allclose(thresholds, best / 2, atol=0.01)


def test_exact_by_hand():
    p = np.array([[0.9, 0.9], [0.6, 0.6], [0.4, 0.4], [0.1, 0.1]])
    assert exact(p, [[1, 1], [1, 0], [0, 0], [0, 0]]) == pytest.approx([0.5, 0.75])
    assert exact(p[:, :1], [[0], [0], [0], [1]]) == pytest.approx([0.05])


def test_exact_keeps_tied_rows_together():
    p = np.array([[0.5], [0.5], [0.2]])
    assert exact(p, [[1], [0], [0]])[0] == pytest.approx(0.35)


def test_exact_takes_the_equal_cut_nearest_to_the_fallback():
    # Keeping 1 row: 2*1/(1+2); keeping 4: 2*2/(4+2): both 2/3.
    p, labels = np.array([[0.9], [0.7], [0.5], [0.3], [0.1]]), [[1], [0], [0], [1], [0]]
    assert exact(p, labels, fallback=0.9)[0] == pytest.approx(0.8)
    assert exact(p, labels, fallback=0.1)[0] == pytest.approx(0.2)


def test_exact_falls_back_without_positives():
    p, labels = draw(2)
    labels[:, [1, 3]] = False
    np.testing.assert_array_equal(exact(p, labels, fallback=[0.1, 0.2, 0.3, 0.4])[[1, 3]], [0.2, 0.4])
    assert exact(p, labels)[1] == 0.5


def test_neighbouring_floats_are_told_apart():
    low = 0.3
    p = np.array([[np.nextafter(low, 1)], [low]])
    assert (p >= exact(p, [[1], [0]])).ravel().tolist() == [True, False]


def test_single_precision_probabilities_are_cut_where_the_double_ones_are():
    p, labels = draw(4, rows=500)
    single = p.astype(np.float32)
    thresholds = exact(single, labels)
    np.testing.assert_array_equal(single >= thresholds, single.astype(np.float64) >= thresholds)


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


@pytest.mark.parametrize("rule", [plug_in, lambda p: exact(p, np.ones_like(p))])
@pytest.mark.parametrize("p", [np.array([[np.nan, 0.1]]), np.array([[3.0, 0.1]])])
def test_rules_refuse_what_is_no_probability(rule, p):
    with pytest.raises(ValueError, match="NaN|outside"):
        rule(p)


def skewed(seed, rows=2000, classes=6):
    """Logits of a miscalibrated model and labels; class 0 is too rare to have positives."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2, 2, (rows, classes))
    labels = rng.random(z.shape) < expit(1.5 * z - 1)
    labels[:, 0] = False
    return z, labels


def test_rule_is_calibration_then_thresholds():
    z, labels = skewed(0)
    rule = fit_rule(z, labels)
    p = rule.platt.probabilities(z)
    np.testing.assert_array_equal(rule.probabilities(z), p)
    np.testing.assert_array_equal(rule.thresholds, plug_in(p))
    np.testing.assert_array_equal(rule.predict(z).labels, decide(p, rule.thresholds).labels)


def test_a_class_that_was_never_seen_is_claimed_only_where_it_is_likelier_than_not():
    z, labels = skewed(0)
    labels = labels.copy()
    labels[:, 0] = False
    trained = np.ones(labels.shape[1], dtype=bool)
    assert fit_rule(z, labels).thresholds[0] == fit_rule(z, labels, trained=trained).thresholds[0] < 0.5
    trained[0] = False
    rule = fit_rule(z, labels, trained=trained)
    assert rule.thresholds[0] >= 0.5
    assert not rule.predict(z).labels[:, 0].any()


def test_rule_of_a_miscalibrated_model_is_near_the_best_on_fresh_rows():
    (z, labels), (fresh, truth) = skewed(0), skewed(100, rows=20_000)
    p = expit(fresh)
    oracle = macro_f1(p >= exact(p, truth), truth)
    rule = fit_rule(z, labels)
    assert macro_f1(rule.probabilities(fresh) >= rule.thresholds, truth) > oracle - 0.01
    # Without the calibration the same thresholds mean nothing.
    assert macro_f1(p >= plug_in(expit(z)), truth) < oracle - 0.03


def test_class_without_positives_is_hardly_predicted():
    z, labels = skewed(1)
    assert (fit_rule(z, labels).probabilities(z) >= fit_rule(z, labels).thresholds)[:, 0].mean() < 0.01


def test_rule_round_trips_through_json():
    z, labels = skewed(2)
    rule = fit_rule(z, labels)
    again = DecisionRule.from_json(json.loads(json.dumps(rule.to_json())))
    np.testing.assert_array_equal(again.predict(z).labels, rule.predict(z).labels)
    np.testing.assert_array_equal(again.thresholds, rule.thresholds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [0.5]}, "1 thresholds but a calibration of 2"),
        ({"thresholds": [0.5, 1.5]}, "between 0 and 1"),
        ({"thresholds": None}, "'thresholds'"),
        ({"platt": 3}, "'platt'"),
        ({"platt": {"slope": [1.0, 1.0]}}, "'offset' is missing"),
    ],
)
def test_wrong_json_is_refused(change, message):
    good = DecisionRule(Platt([1, 1], [0, 0]), [0.5, 0.5]).to_json()
    with pytest.raises(ValueError, match=message):
        DecisionRule.from_json({**good, **change})


def test_cross_fitted_rows_are_predicted_by_rules_that_never_saw_them():
    z, labels = skewed(3, rows=60)
    # Each row is a fold of its own, so its labels may move the other rows' rules but never its own.
    alone = cross_fitted(z, labels, folds=60)
    flipped = labels.copy()
    flipped[17] = ~flipped[17]
    moved = cross_fitted(z, flipped, folds=60)
    np.testing.assert_array_equal(moved[17], alone[17])
    assert (moved != alone).any()


def test_cross_fitted_repeats_and_leaves_no_row_empty():
    z, labels = skewed(4, rows=300)
    predicted = cross_fitted(z, labels, seed=5)
    np.testing.assert_array_equal(cross_fitted(z, labels, seed=5), predicted)
    assert predicted.shape == labels.shape
    assert predicted.any(axis=1).all()


def test_cross_fitting_takes_out_the_flattery():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(400, 8)), rng.random((400, 8)) < 0.03
    flattered = macro_f1(decide(expit(z), exact(expit(z), labels)).labels, labels)
    assert macro_f1(cross_fitted(z, labels), labels) < flattered - 0.03


def real_predictions():
    data = os.environ.get("HPA_TEST_DATA")
    if not data:
        pytest.skip("real predictions: HPA_TEST_DATA is not set")
    arrays = np.load(Path(data) / "predictions" / "heldout_probabilities.npz")
    sound = ("resnet34_256_rgb", "resnet34_256_rgby", "resnet34_224_rgb", "vgg16_224_rgb")
    return np.mean([arrays[name] for name in sound], axis=0, dtype=np.float64), arrays["labels"].astype(bool)


def test_rule_beats_the_exact_search_on_real_predictions():
    p, labels = real_predictions()
    z, gains = logit(p), []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(labels))
        fit, rest = order[:1554], order[1554:]
        ours = fit_rule(z[fit], labels[fit]).predict(z[rest]).labels
        searched = decide(p[rest], exact(p[fit], labels[fit])).labels
        gains.append(macro_f1(ours, labels[rest]) - macro_f1(searched, labels[rest]))
    assert np.mean(gains) >= 0.015


def test_rows_below_every_threshold_stay_empty_where_only_some_labels_are_looked_at():
    decision = decide([[0.1, 0.2], [0.6, 0.2]], [0.5, 0.5], fill=False)
    assert decision.labels.tolist() == [[False, False], [True, False]]
    assert decision.filled == 0
