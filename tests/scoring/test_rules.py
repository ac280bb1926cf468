import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from hpa_search.scoring.calibration import Platt, logit
from hpa_search.scoring.cuts import exact
from hpa_search.scoring.metrics import macro_f1
from hpa_search.scoring.partial_pooling import calibrate
from hpa_search.scoring.rules import DEFAULT, RULES, UNSEEN, cross_fitted, fit_rule
from hpa_search.scoring.thresholds import decide
from tests.scoring.samples import alike, claimed, miscalibrated, odd_inputs, seeds, without_first


def test_every_rule_is_registered_with_the_default_first_and_a_line_about_each():
    assert {"plug_in", "proportion", "exact", "global", "grid", "half"} <= set(RULES)
    assert next(iter(RULES)) == DEFAULT
    assert set(RULES.about) == set(RULES) and all(RULES.about.values())
    with pytest.raises(ValueError, match="thresholds: expected one of 'plug_in'.*given: 'plugin'"):
        fit_rule(*alike(0), name="plugin")


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=15)
@given(seed=seeds, rows=st.sampled_from([1, 2, 5, 60]), random=st.randoms(use_true_random=False))
def test_order_of_rows_and_classes_does_not_matter(name, seed, rows, random):
    z, labels = miscalibrated(seed, rows)
    order, classes = random.sample(range(rows), rows), random.sample(range(4), 4)
    rule, other = fit_rule(z, labels, name=name), fit_rule(z[order][:, classes], labels[order][:, classes], name=name)
    np.testing.assert_allclose(other.thresholds, rule.thresholds[classes], atol=1e-6)
    np.testing.assert_allclose(other.platt.slope, rule.platt.slope[classes], atol=1e-6)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("case", odd_inputs())
def test_odd_inputs_give_a_rule(name, case):
    z, labels = odd_inputs()[case]
    rule = fit_rule(z, labels, name=name)
    assert rule.predict(z).labels.any(axis=1).all()
    if name in ("plug_in", "proportion"):
        assert (rule.thresholds > 0).all()
        share = claimed(rule, z).mean(axis=0)
        assert (share[~labels.any(axis=0)] <= 0.5).all()
        # Of a class that rows carry some are claimed, even where all look alike.
        assert (share[labels.any(axis=0)] > 0).all()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("trained", [None, [True] * 5, [False, True, True, True, True]])
def test_a_class_without_positives_ends_neither_at_nothing_nor_at_everything(name, trained):
    z, labels = without_first(0)
    rule = fit_rule(z, labels, name=name, trained=trained)
    everything = claimed(rule, z)[:, 0].mean()
    if name == "grid":
        assert rule.thresholds[0] == pytest.approx(1e-4) and everything > 0.99
    else:
        assert 1e-3 < rule.thresholds[0] < 1
        assert everything < 0.02


@pytest.mark.parametrize("name", ["plug_in", "proportion"])
def test_a_class_without_positives_whose_scores_are_all_the_same_is_not_given(name):
    z, labels = without_first(1)
    z[:, 0] = -2.0
    assert not claimed(fit_rule(z, labels, name=name), z)[:, 0].any()


@pytest.mark.parametrize("name", ["plug_in", "proportion"])
def test_a_class_that_was_never_seen_is_claimed_only_where_it_is_likelier_than_not(name):
    z, labels = without_first(2)
    trained = np.ones(5, dtype=bool)
    plain, known = (fit_rule(z, labels, name=name, trained=which) for which in (None, trained))
    assert plain.thresholds[0] == known.thresholds[0] < UNSEEN
    trained[:2] = False
    rule = fit_rule(z, labels, name=name, trained=trained)
    assert rule.thresholds[0] >= UNSEEN
    # These rows have seen the second class, whatever the network has.
    np.testing.assert_array_equal(rule.thresholds[1:], plain.thresholds[1:])


@pytest.mark.parametrize("name", RULES)
def test_a_class_without_negatives_is_claimed_throughout(name):
    z, labels = alike(3)
    labels[:, 1] = True
    share = claimed(fit_rule(z, labels, name=name), z)[:, 1].mean()
    assert share == 1 if name in ("plug_in", "proportion", "exact") else share > 0


def test_where_calibration_starts_does_not_matter():
    z, labels = alike(5)
    for name in ("plug_in", "proportion"):
        rule = fit_rule(z, labels, name=name)
        other = fit_rule(z, labels, name=name, start=Platt(np.full(5, 0.3), np.full(5, 1.0)))
        np.testing.assert_allclose(other.thresholds, rule.thresholds, atol=1e-7)


@pytest.mark.parametrize("name", RULES)
def test_rows_are_filled_up_only_if_asked(name):
    z, labels = alike(6)
    assert fit_rule(z, labels, name=name, fill=False).fill is False
    assert fit_rule(z, labels, name=name).fill is True


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("logits", "message"), [([[np.nan], [0.0]], "logits hold NaN"), ([[0.0]], "shape")])
def test_wrong_input_is_refused(name, logits, message):
    with pytest.raises(ValueError, match=message):
        fit_rule(logits, [[0], [1]], name=name)


@pytest.mark.parametrize("fitted", [1554, 3107])
def test_the_default_beats_the_exact_search_on_real_predictions_and_does_not_flatter(real, fitted):
    z, gains, flattery = logit(expit(real.logits[real.sound]).mean(axis=0)), [], []
    for seed in range(12):
        fit, rest = real.split(fitted, seed)
        rules = [fit_rule(z[fit], real.labels[fit], name=name) for name in (DEFAULT, "exact")]
        ours, searched = (macro_f1(rule.predict(z[rest]).labels, real.labels[rest]) for rule in rules)
        gains.append(ours - searched)
        flattery.append(macro_f1(rules[0].predict(z[fit]).labels, real.labels[fit]) - ours)
    assert np.mean(gains) >= 0.015
    assert np.mean(flattery) <= 0.015


@pytest.mark.parametrize("name", ["plug_in", "exact"])
def test_cross_fitted_rows_are_predicted_by_rules_that_never_saw_them(name):
    z, labels = miscalibrated(3, rows=40)
    # Each row is a fold of its own, so its labels may move the other rows' rules but never its own.
    alone = cross_fitted(z, labels, folds=40, name=name)
    flipped = labels.copy()
    flipped[17] = ~flipped[17]
    moved = cross_fitted(z, flipped, folds=40, name=name)
    np.testing.assert_array_equal(moved[17], alone[17])
    assert (moved != alone).any()


def test_cross_fitted_repeats_and_leaves_no_row_empty():
    z, labels = miscalibrated(4, rows=300)
    predicted = cross_fitted(z, labels, seed=5)
    np.testing.assert_array_equal(cross_fitted(z, labels, seed=5), predicted)
    assert (cross_fitted(z, labels, seed=6) != predicted).any()
    assert predicted.shape == labels.shape
    assert predicted.any(axis=1).all()
    assert not cross_fitted(z - 20, labels, seed=5, fill=False, name="half").any()


def test_cross_fitted_keeps_groups_whole():
    z, labels = miscalibrated(5, rows=60)
    groups = np.arange(60) // 20
    predicted = cross_fitted(z, labels, folds=3, groups=groups)
    for group in range(3):
        inside = groups == group
        start = calibrate(z, labels)
        expected = fit_rule(z[~inside], labels[~inside], start=start).predict(z[inside]).labels
        np.testing.assert_array_equal(predicted[inside], expected)


def test_cross_fitting_takes_out_the_flattery():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(400, 8)), rng.random((400, 8)) < 0.03
    flattered = macro_f1(decide(expit(z), exact(expit(z), labels)).labels, labels)
    assert macro_f1(cross_fitted(z, labels), labels) < flattered - 0.03
