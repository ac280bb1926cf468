import numpy as np
import pytest

from hpa_search.scoring.appraisal import appraise
from hpa_search.scoring.ensemble import SELECTIONS, combine, limited, standard
from hpa_search.scoring.final import FinalChoice
from hpa_search.scoring.intervals import bootstrap_interval
from hpa_search.scoring.metrics import macro_f1
from hpa_search.scoring.rules import RULES, fit_rule

CLASSES = 6


def make(noises, rows=300, seed=0):
    """Labels (n, 6), the last class in one row only, and a member for each noise: logits (m, n, 6)."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, CLASSES)) < [0.4, 0.3, 0.2, 0.1, 0.1, 0.0]
    labels[7, 5] = True
    labels[~labels.any(axis=1), 0] = True
    members = [3.0 * (2 * labels - 1) + noise * rng.normal(size=labels.shape) - 1 for noise in noises]
    return np.stack(members).astype(np.float32), labels


def test_a_useless_member_gets_no_weight():
    members, labels = make([3, 3, 3])
    noise, constant = np.random.default_rng(1).normal(size=members[0].shape), np.full(members[0].shape, 0.1)
    ensemble = FinalChoice((0, 1, 2, 3, 4))(np.stack([*members, noise, constant]).astype(np.float32), labels)
    assert ensemble.weights[3:].tolist() == [0, 0]
    assert ensemble.weights.sum() == pytest.approx(1)
    assert np.count_nonzero(ensemble.weights) >= 2


def test_an_ensemble_is_better_than_its_members_on_other_rows():
    members, labels = make([4, 4, 4], rows=1200)
    choice = FinalChoice(tuple(range(5)))
    chosen = choice(members[:, :600], labels[:600])
    assert chosen.covered is None
    together = macro_f1(chosen(members[:, 600:])[:, :5], labels[600:, :5])
    for member in members:
        alone = choice(member[None, :600], labels[:600])(member[None, 600:])
        assert together > macro_f1(alone[:, :5], labels[600:, :5]) + 0.02


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_no_more_members_are_taken_than_allowed(most):
    members, labels = make([4] * 6)
    weights = FinalChoice((0, 1, 2, 3), max_members=most)(members, labels).weights
    assert 1 <= np.count_nonzero(weights) <= most
    assert weights.sum() == pytest.approx(1)


def test_one_member_is_an_ensemble():
    members, labels = make([2])
    ensemble = FinalChoice((0,))(members, labels)
    assert ensemble.weights.tolist() == [1.0]
    expected = standard(members[0], labels).logits(members[0])
    np.testing.assert_allclose(ensemble.logits(members), expected, rtol=1e-6)
    # Calibrated twice is calibrated once, nearly: the rule pulls slopes together once more.
    assert (ensemble(members) == fit_rule(members[0], labels).predict(members[0]).labels).mean() > 0.99


@pytest.mark.parametrize("classes", [(0, 5), (5,)])
def test_folds_without_a_positive_of_a_class_are_chosen_on_all_the_same(classes):
    members, labels = make([2, 3])
    without = np.delete(np.arange(len(labels)), 7)
    ensemble = FinalChoice(classes)(members[:, without], labels[without])
    assert ensemble(members).any(axis=1).all()
    assert np.isfinite(appraise(FinalChoice(classes), members, labels).estimate.honest)


def test_the_same_arguments_give_the_same_choice():
    members, labels = make([3, 4, 5])
    one, other = (FinalChoice(tuple(range(6)))(members.copy(), labels.copy()) for _ in range(2))
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.rule.thresholds, other.rule.thresholds)
    np.testing.assert_array_equal(one(members), other(members))


def test_members_without_weight_are_not_read():
    members, labels = make([2, 3])
    ensemble = FinalChoice((0, 1))(np.concatenate([members[:1], -members[:1]]), labels)
    assert ensemble.weights.tolist() == [1, 0]
    poisoned = members.copy()
    poisoned[1] = np.nan
    np.testing.assert_array_equal(ensemble(poisoned), ensemble(members))


def test_half_precision_logits_are_taken():
    members, labels = make([3, 3])
    choice = FinalChoice((0, 1, 2))
    assert (choice(members.astype(np.float16), labels)(members) == choice(members, labels)(members)).mean() > 0.99


@pytest.mark.parametrize("value", [np.inf, 3e4])
def test_members_that_are_too_sure_are_taken_at_fifty(value):
    members, labels = make([4, 4, 4])
    choice, sure = FinalChoice(tuple(range(5)), bags=1), np.where(members > 0, 1, -1)
    found, expected = (choice(size * sure, labels) for size in (value, 50))
    np.testing.assert_array_equal(found.weights, expected.weights)
    assert np.count_nonzero(found.weights) > 1
    np.testing.assert_array_equal(found.rule.thresholds, expected.rule.thresholds)


def test_nan_logits_are_refused():
    members, labels = make([2, 3])
    members[1, 0, 0] = np.nan
    for choice in (FinalChoice(), FinalChoice(ensemble="uniform"), FinalChoice(ensemble="single")):
        with pytest.raises(ValueError, match="members hold NaN"):
            choice(members, labels)
    with pytest.raises(ValueError, match="at least one class with a positive"):
        FinalChoice()(make([2])[0], np.zeros_like(labels))


def test_order_of_rows_members_and_classes_does_not_matter():
    """With plain greedy: bags are drawn by the places of rows."""
    members, labels = make([3, 4, 5])
    rng = np.random.default_rng(0)
    rows, order, classes = rng.permutation(300), [2, 0, 1], rng.permutation(CLASSES)
    for bags, rows_too in ((1, rows), (10, np.arange(300))):
        choice = FinalChoice(bags=bags)
        one, other = choice(members, labels), choice(members[order][:, rows_too][:, :, classes], labels[rows_too][:, classes])
        np.testing.assert_allclose(other.weights, one.weights[order], atol=1e-12)
        np.testing.assert_allclose(other.rule.thresholds, one.rule.thresholds[classes], atol=1e-5)


def test_a_member_on_another_scale_counts_the_same():
    members, labels = make([3, 3, 4])
    changed = members * np.array([1, 0.3, 0.05], dtype=np.float32)[:, None, None] + np.array([0, 1, -1])[:, None, None]
    one, other = (FinalChoice()(some, labels) for some in (members, changed))
    np.testing.assert_allclose(other.weights, one.weights, atol=0.03)
    assert (other(changed) == one(members)).mean() > 0.995


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_ways_to_select_go_by_their_names(name):
    members, labels = make([3, 4, 5, 20])
    scores = np.stack([standard(member, labels).logits(member) for member in members]).astype(np.float32)
    expected = SELECTIONS[name](scores, labels, None, 20, 10)
    found = FinalChoice(ensemble=name, pool=4)(members, labels).weights
    np.testing.assert_allclose(found, limited(expected, 5), atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_the_rules_go_by_their_names(name):
    members, labels = make([3, 4])
    ensemble = FinalChoice(thresholds=name)(members, labels)
    expected = fit_rule(ensemble.logits(members), labels, name=name, trained=np.ones(CLASSES))
    np.testing.assert_array_equal(ensemble.rule.thresholds, expected.thresholds)


@pytest.mark.parametrize(
    ("names", "message"), [({"ensemble": "best"}, "ensemble: expected"), ({"thresholds": "x"}, "thresholds: ")]
)
def test_unknown_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        FinalChoice(**names)(*make([2, 3]))


def test_only_the_pool_of_the_best_is_chosen_from():
    members, labels = make([6, 3, 6, 4, 5])
    weights = FinalChoice(tuple(range(5)), ensemble="uniform", pool=2)(members, labels).weights
    assert weights.tolist() == [0, 0.5, 0, 0.5, 0]


def test_classes_that_no_member_has_seen_are_hardly_given():
    members, labels = make([2, 3])
    labels[7, 5] = False
    seen, unseen = (FinalChoice(tuple(range(5)), trained=trained)(members, labels) for trained in (None, tuple(range(5))))
    assert unseen.rule.thresholds[5] >= 0.5 > seen.rule.thresholds[5]
    np.testing.assert_array_equal(unseen.rule.thresholds[:5], seen.rule.thresholds[:5])


@pytest.mark.long
def test_the_honest_estimate_holds_on_real_predictions(real):
    honest, naive, truth = [], [], []
    choice = FinalChoice(bags=1)
    for seed in range(8):
        fit, rest = real.split(1554, seed)
        members, labels = real.logits[:, fit], real.labels[fit]
        estimate = appraise(choice, members, labels, folds=5).estimate
        interval = bootstrap_interval(estimate.predicted, labels, samples=200)
        assert 0.02 < interval.high - interval.low < 0.2
        honest.append(estimate.honest)
        naive.append(estimate.naive)
        truth.append(macro_f1(choice(members, labels)(real.logits[:, rest]), real.labels[rest]))
    # The standard deviation of one difference is 0.033.
    assert abs(np.mean(honest) - np.mean(truth)) < 0.035
    assert np.mean(naive) > np.mean(honest)


def specialists():
    """Two generalists that are poor at class 4, and a specialist that knows it well and has noise everywhere else."""
    members, labels = make([3, 3, 1], rows=1200)
    rng = np.random.default_rng(5)
    members[:2, :, 4] = rng.normal(size=members[:2, :, 4].shape)
    members[2, :, :4] = 20 * rng.normal(size=members[2, :, :4].shape)
    covers = np.ones((3, CLASSES), dtype=bool)
    covers[2] = np.arange(CLASSES) == 4
    return members, labels, covers


def test_a_specialist_speaks_for_its_classes_alone():
    members, labels, covers = specialists()
    ensemble = FinalChoice((0, 1, 2, 3, 4), covers=covers)(members[:, :600], labels[:600])
    assert ensemble.weights[2] > 0
    logits = ensemble.logits(members)
    generalists = combine(members[:2], ensemble.weights[:2], ensemble.maps[:2])
    np.testing.assert_allclose(logits[:, :4], generalists[:, :4])
    changed = members.copy()
    changed[2, :, :4] += 7
    np.testing.assert_array_equal(ensemble.logits(changed), logits)
    assert ensemble.covered.all()
    without = FinalChoice((0, 1, 2, 3, 4))(members[:2, :600], labels[:600])
    gain = macro_f1(ensemble(members[:, 600:])[:, :5], labels[600:, :5]) - macro_f1(
        without(members[:2, 600:])[:, :5], labels[600:, :5]
    )
    assert gain > 0.05


def test_a_class_that_nobody_was_trained_for_is_never_given_and_no_row_is_filled_up():
    members, labels, covers = specialists()
    alone = FinalChoice((4,), covers=covers[2:])(members[2:], labels)
    assert alone.covered.tolist() == covers[2].tolist()
    found = alone(members[2:])
    assert not found[:, :4].any() and not found[:, 5].any()
    assert macro_f1(found[:, 4:5], labels[:, 4:5]) > 0.8
    assert not found.any(axis=1).all()
