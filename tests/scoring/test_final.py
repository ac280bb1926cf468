import numpy as np
import pytest

from hpa_search.scoring.estimate import nested_estimate
from hpa_search.scoring.final import FinalChoice, ensemble_logits
from hpa_search.scoring.metrics import macro_f1

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
    members, labels = make([3, 3, 3, 1000])
    ensemble = FinalChoice((0, 1, 2, 3, 4))(members, labels)
    assert ensemble.weights[3] == 0
    assert ensemble.weights.sum() == pytest.approx(1)
    assert np.count_nonzero(ensemble.weights) >= 2


def test_an_ensemble_is_better_than_its_members_on_other_rows():
    members, labels = make([4, 4, 4], rows=1200)
    choice = FinalChoice(tuple(range(5)))
    chosen = choice(members[:, :600], labels[:600])
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
    np.testing.assert_allclose(ensemble_logits(members, ensemble.weights), members[0], atol=0.1, rtol=0)


@pytest.mark.parametrize("classes", [(0, 5), (5,)])
def test_folds_without_a_positive_of_a_class_are_chosen_on_all_the_same(classes):
    members, labels = make([2, 3])
    without = np.delete(np.arange(len(labels)), 7)
    ensemble = FinalChoice(classes)(members[:, without], labels[without])
    assert ensemble(members).any(axis=1).all()
    estimate = nested_estimate(members, labels, choose=FinalChoice(classes))
    assert np.isfinite(estimate.honest)


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
    logits = ensemble_logits(members, ensemble.weights, covers)
    generalists = ensemble_logits(members[:2], ensemble.weights[:2])
    np.testing.assert_allclose(logits[:, :4], generalists[:, :4])
    changed = members.copy()
    changed[2, :, :4] += 7
    np.testing.assert_array_equal(ensemble_logits(changed, ensemble.weights, covers), logits)
    without = FinalChoice((0, 1, 2, 3, 4))(members[:2, :600], labels[:600])
    gain = macro_f1(ensemble(members[:, 600:])[:, :5], labels[600:, :5]) - macro_f1(
        without(members[:2, 600:])[:, :5], labels[600:, :5]
    )
    assert gain > 0.05


def test_a_class_that_nobody_was_trained_for_is_never_given_and_no_row_is_filled_up():
    members, labels, covers = specialists()
    alone = FinalChoice((4,), covers=covers[2:])(members[2:], labels)
    found = alone(members[2:])
    assert not found[:, :4].any() and not found[:, 5].any()
    assert macro_f1(found[:, 4:5], labels[:, 4:5]) > 0.8
    assert not found.any(axis=1).all()
