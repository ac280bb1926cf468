import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.scoring import ensemble
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.ensemble import (
    BAGS,
    LEAST_WEIGHT,
    NOBODY,
    SELECTIONS,
    bagged_greedy,
    best_first,
    combine,
    greedy,
    greedy_on,
    limited,
    standard,
)
from hpa_search.scoring.metrics import macro_average_precision, macro_f1
from hpa_search.scoring.partial_pooling import calibrate
from hpa_search.scoring.rules import fit_rule
from tests.scoring.samples import miscalibrated, pool, seeds


def plain_greedy(members, labels, rounds):
    """The algorithm of Caruana et al. in its shortest form, through the public score."""
    chosen: list[int] = []
    score = -1.0
    while len(chosen) < rounds:
        tried = [macro_average_precision(members[[*chosen, i]].sum(axis=0), labels) for i in range(len(members))]
        if max(tried) <= score + 1e-7:
            break
        score = max(tried)
        chosen.append(int(np.argmax(tried)))
    return np.bincount(chosen, minlength=len(members)) / len(chosen)


def score(members, labels, weights):
    return macro_average_precision(np.tensordot(weights, members, 1), labels)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_the_published_algorithm(seed):
    members, labels = pool(seed, [1, 1.2, 1.5, 3, 1.1])
    np.testing.assert_allclose(greedy(members, labels, rounds=12), plain_greedy(members, labels, 12), atol=1e-15)


def test_a_bag_is_greedy_on_its_rows():
    members, labels = pool(0, [1, 1.2, 1.5])
    rng, every = np.random.default_rng(3), np.arange(4)
    drawn = [rng.integers(0, 400, 400) for _ in range(4)]
    expected = np.mean([greedy(members[:, rows], labels[rows]) for rows in drawn], axis=0)
    np.testing.assert_allclose(bagged_greedy(members, labels, bags=4, seed=3), expected, atol=1e-15)
    np.testing.assert_array_equal(greedy_on(members, labels, every, drawn[0], 20), greedy(members[:, drawn[0]], labels[drawn[0]]))
    np.testing.assert_array_equal(bagged_greedy(members, labels, bags=1), greedy(members, labels))
    assert (bagged_greedy(members, labels, seed=1) != bagged_greedy(members, labels, seed=2)).any()


def test_bags_that_draw_no_positive_of_a_class_choose_on_the_others():
    members, labels = pool(1, [1, 1.5])
    labels[:, 3] = False
    labels[5, 3] = True
    weights = bagged_greedy(members, labels, classes=[1, 3])
    assert weights.sum() == pytest.approx(1)
    drawn = np.delete(np.arange(400), 5)
    expected = greedy(members[:, drawn], labels[drawn], [1])
    np.testing.assert_array_equal(greedy_on(members, labels, np.array([1, 3]), drawn, 20), expected)
    # No positive at all: all rows.
    np.testing.assert_array_equal(greedy_on(members, labels, np.array([3]), drawn, 20), greedy(members, labels, [3]))
    one = np.zeros_like(labels)
    one[7, 2] = True
    assert bagged_greedy(members, one).sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["greedy", "single"])
@pytest.mark.parametrize("bags", [1, BAGS])
def test_poor_members_get_no_weight(name, bags):
    members, labels = pool(0, [1, 1, 1])
    noise = np.random.default_rng(1).normal(0, 3, (2, *labels.shape)).astype(np.float32)
    weights = SELECTIONS[name](np.concatenate([noise, members, -members[:1]]), labels, bags=bags)
    # A bag may take noise for its accidents once in twenty rounds.
    assert weights[[0, 1]].sum() < 0.01 and weights[5] == 0
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["constant", "random", "copies of noise", "upside down", "twin"])
@pytest.mark.parametrize("seed", range(4))
def test_a_useless_member_changes_little(seed, kind):
    members, labels = pool(seed, [1, 1.3, 1.6], rows=300)
    noise = np.random.default_rng([seed, 1]).normal(0, 3, labels.shape)
    useless = {
        "constant": [np.full_like(noise, 0.1)],
        "random": [noise],
        "copies of noise": [noise, noise, 3 * noise + 1],
        "upside down": [-members[0]],
        "twin": [members[0]],
    }[kind]
    more = np.concatenate([members, np.array(useless, dtype=np.float32)])
    without, weights = (SELECTIONS["greedy"](some, labels) for some in (members, more))
    own = weights[:3] + (np.eye(3)[0] * weights[3] if kind == "twin" else 0)
    np.testing.assert_allclose(own, without, atol=0.08)
    assert score(more, labels, weights) >= score(members, labels, without) - 0.005


def test_no_worse_than_the_best_single_on_the_rows_it_chose_on():
    for seed in range(5):
        members, labels = pool(seed, [1, 2, 3, 1.5])
        best = score(members, labels, SELECTIONS["single"](members, labels))
        assert score(members, labels, greedy(members, labels)) >= best - 1e-6


def test_independent_members_are_combined_with_gain():
    members, labels = pool(2, [1.5, 1.5, 1.5])
    best = max(macro_average_precision(member, labels) for member in members)
    for weights in (greedy(members, labels), bagged_greedy(members, labels)):
        assert (weights > 0).all()
        assert score(members, labels, weights) > best + 0.02


@pytest.mark.parametrize("name", SELECTIONS)
@settings(max_examples=10)
@given(seed=seeds, random=st.randoms(use_true_random=False))
def test_order_of_members_and_classes_does_not_matter(name, seed, random):
    members, labels = pool(seed, [1, 1.3, 2, 1.1], rows=150)
    order, classes = random.sample(range(4), 4), random.sample(range(4), 4)
    weights = SELECTIONS[name](members, labels, bags=3)
    # In float32 the order of the classes moves a mean by its rounding; ranks are the same.
    other = SELECTIONS[name](members[order][:, :, classes], labels[:, classes], bags=3)
    np.testing.assert_allclose(other, weights[order], atol=1e-12)


def test_order_of_rows_does_not_matter():
    members, labels = pool(3, [1, 1.3, 2, 1.1])
    rows = np.random.default_rng(0).permutation(len(labels))
    for name in ("single", "uniform"):
        np.testing.assert_array_equal(SELECTIONS[name](members[:, rows], labels[rows]), SELECTIONS[name](members, labels))
    np.testing.assert_array_equal(greedy(members[:, rows], labels[rows]), greedy(members, labels))
    np.testing.assert_array_equal(best_first(members[:, rows], labels[rows]), best_first(members, labels))


def test_twins_and_constants_end():
    members, labels = pool(4, [1])
    constant = np.full_like(members[0], 0.5)
    np.testing.assert_array_equal(greedy(np.stack([members[0], members[0], constant]), labels), [1, 0, 0])
    np.testing.assert_array_equal(greedy(np.stack([constant, constant]), labels), [1, 0])
    for name in ("greedy", "single"):
        assert SELECTIONS[name](members[:, :1], labels[:1] | True).tolist() == [1]


def test_classes_and_rounds_are_obeyed():
    members, labels = pool(5, [1, 1])
    mixed = members.copy()
    mixed[0, :, 2:], mixed[1, :, :2] = 0.5, 0.5
    for name in ("greedy", "single"):
        assert SELECTIONS[name](mixed, labels, classes=[0, 1], rounds=1).tolist() == [1, 0]
        assert SELECTIONS[name](mixed, labels, classes=np.array([False, False, True, True]), rounds=1).tolist() == [0, 1]
    weights = greedy(*pool(6, [1] * 6), rounds=4)
    assert (weights * 4 == np.round(weights * 4)).all()
    labels[:, 3] = False
    assert greedy(members, labels).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="without positives"):
        greedy(members, labels, classes=[3])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 40.0]), st.sampled_from([300, 2500]))
def test_a_round_is_exact_where_it_counts(seed, size, rows):
    """Scores of many rows are first sorted in steps; those that may win are scored again."""
    members, labels = pool(seed, [1, 1.1, 2, 1.05, 5], rows=rows)
    columns, positives = ensemble._columns(size * members, labels, None)
    found = ensemble._scores_of_round(columns, positives, columns[0])
    exact = np.array([macro_average_precision((columns[0] + one).T, labels) for one in columns])
    assert found.argmax() == exact.argmax() and found.max() == pytest.approx(exact.max(), abs=1e-12)
    np.testing.assert_allclose(found, exact, atol=1e-12 if rows < 2000 else 3e-4)


def test_the_best_come_first():
    members, labels = pool(8, [2, 1, 3, 1.5])
    assert best_first(members, labels).tolist() == [1, 3, 0, 2]
    assert best_first(members[[0, 0, 1]], labels).tolist() == [2, 0, 1]
    assert best_first(members, labels, [2])[0] == np.argmax([macro_average_precision(one, labels, [2]) for one in members])


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        (np.full((2, 4, 1), np.nan), {}, "members hold NaN"),
        (np.full((4, 1), 0.5), {}, "members x rows x classes"),
        (np.full((2, 3, 1), 0.5), {}, "the labels have"),
        (np.full((2, 4, 1), 0.5), {"rounds": 0}, "rounds must be"),
        (np.full((2, 4, 1), 0.5), {"classes": [False]}, "at least one class"),
    ],
)
def test_wrong_input_is_refused(members, options, message):
    for select in (greedy, bagged_greedy):
        with pytest.raises(ValueError, match=message):
            select(members, [[1], [0], [1], [0]], **options)


@pytest.mark.parametrize(
    ("most", "least", "expected"),
    [
        (5, 0.02, [0.5, 0.19, 0.3, 0]),
        (2, 0.02, [0.5, 0, 0.3, 0]),
        (1, 0.02, [1, 0, 0, 0]),
        (5, 0.2, [0.5, 0, 0.3, 0]),
        (5, 0.9, [1, 0, 0, 0]),
    ],
)
def test_few_members_are_kept(most, least, expected):
    np.testing.assert_allclose(limited([0.5, 0.19, 0.3, 0.01], most, least), np.array(expected) / sum(expected))


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(any), st.integers(1, 8), st.randoms(use_true_random=False))
def test_limited_weights_sum_to_one_in_any_order(weights, most, random):
    found, order = limited(weights, most), random.sample(range(len(weights)), len(weights))
    assert found.sum() == pytest.approx(1)
    assert 1 <= np.count_nonzero(found) <= most
    assert np.count_nonzero(found) == 1 or np.asarray(weights)[found > 0].min() >= LEAST_WEIGHT
    if len(set(weights)) == len(weights):
        np.testing.assert_allclose(limited(np.asarray(weights)[order], most), found[order])


def maps(*slopes, classes=4):
    return [Platt(np.full(classes, slope), np.zeros(classes)) for slope in slopes]


def test_combine_is_the_weighted_mean_of_what_the_maps_make_of_members():
    members, _ = pool(7, [1, 2, 3])
    shifted = Platt(np.full(4, 0.2), np.arange(4.0))
    expected = 0.25 * members[0] / 2 + 0.75 * (members[2] / 5 + np.arange(4))
    np.testing.assert_allclose(combine(members, [1, 0, 3], [*maps(0.5, 3), shifted]), expected, atol=1e-6)
    np.testing.assert_allclose(combine(members, [0, 2, 0], maps(1, 1, 1)), members[1].astype(np.float64))
    broken = members.copy()
    broken[0] = np.nan
    np.testing.assert_allclose(combine(broken, [0, 1, 0], maps(1, 1, 1)), members[1])
    with pytest.raises(ValueError, match="members hold NaN"):
        combine(broken, [1, 1, 0], maps(1, 1, 1))
    infinite = np.full((1, 1, 2), [np.inf, -np.inf])
    assert combine(infinite, [1], maps(0.5, classes=2)).tolist() == [[25, -25]]


@pytest.mark.parametrize(
    ("weights", "count", "message"),
    [
        ([1, 1], 3, "weights"),
        ([0, 0, 0], 3, "weights"),
        ([1, -1, 1], 3, "weights"),
        ([np.nan, 1, 1], 3, "weights"),
        ([1, 1, 1], 2, "2 maps do not fit 3 members"),
    ],
)
def test_combine_refuses_wrong_weights_and_maps(weights, count, message):
    with pytest.raises(ValueError, match=message):
        combine(np.full((3, 2, 2), 0.5), weights, maps(*[1] * count, classes=2))


def test_members_that_cover_some_classes_speak_for_these_alone():
    members = np.stack([np.full((2, 3), value) for value in (0.2, 0.6, 0.9)])
    covers = np.array([[True, True, False], [True, False, False], [False, True, False]])
    found = combine(members, [1, 3, 1], maps(1, 1, 1, classes=3), covers)
    np.testing.assert_allclose(found, [[(0.2 + 3 * 0.6) / 4, (0.2 + 0.9) / 2, NOBODY]] * 2)
    everywhere = combine(members, [1, 3, 1], maps(1, 1, 1, classes=3), np.ones((3, 3), dtype=bool))
    np.testing.assert_array_equal(everywhere, combine(members, [1, 3, 1], maps(1, 1, 1, classes=3)))


def test_standard_scores_are_calibrated_and_spread_by_one_within_the_classes():
    z, labels = miscalibrated(3)
    platt, calibrated = standard(z, labels), calibrate(z, labels)
    scores = platt.logits(z)
    assert np.sqrt(scores.var(axis=0).mean()) == pytest.approx(1)
    unit = calibrated.logits(z) / scores
    np.testing.assert_allclose(unit, unit[0, 0], rtol=1e-9)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 3), st.floats(-5, 5))
def test_a_member_on_another_scale_and_place_says_the_same(seed, factor, shift):
    """Small spreads around a large bias among them: what an early epoch gives."""
    z, labels = miscalibrated(seed, rows=200)
    z = np.clip(z, -10, 10)
    found, moved = (standard(some, labels).logits(some) for some in (z, factor * z + shift))
    np.testing.assert_allclose(moved, found, atol=1e-4)


def test_classes_that_a_member_does_not_cover_are_left_as_they_are():
    z, labels = miscalibrated(4)
    covered = np.array([True, False, True, True])
    platt, alone = standard(z, labels, covered), standard(z[:, covered], labels[:, covered])
    assert (platt.slope[1], platt.offset[1]) == (1, 0)
    np.testing.assert_array_equal(platt.slope[covered], alone.slope)
    nothing = standard(z, labels, np.zeros(4, dtype=bool))
    assert (nothing.slope == 1).all() and not nothing.offset.any()


@pytest.mark.parametrize("value", [0.0, 0.1, -37.3, 1e9])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_that_are_all_the_same_stay_so(value, dtype):
    labels = np.arange(903).reshape(301, 3) % 2 == 0
    with np.errstate(over="ignore"):
        constant = np.full((301, 3), value).astype(dtype)
    scores = standard(constant, labels).logits(constant)
    assert np.isfinite(scores).all() and np.ptp(scores, axis=0).max() < 1e-9


@pytest.mark.parametrize("bags", [1, BAGS])
def test_greedy_on_real_predictions_drops_the_poor_models(real, bags):
    poor = [real.names.index("inception_224_rgb"), real.names.index("vgg16_224_green")]
    gains = []
    for seed in range(4):
        fit, rest = real.split(1554, seed)
        maps = [standard(member[fit], real.labels[fit]) for member in real.logits]
        members = np.stack([one.logits(z[fit]) for one, z in zip(maps, real.logits, strict=True)]).astype(np.float32)
        weights = SELECTIONS["greedy"](members, real.labels[fit], bags=bags)
        assert weights[poor].sum() <= 0.02
        best = SELECTIONS["single"](members, real.labels[fit])
        scores = []
        for chosen in (weights, best):
            z = combine(real.logits, chosen, maps)
            scores.append(macro_f1(fit_rule(z[fit], real.labels[fit]).predict(z[rest]).labels, real.labels[rest]))
        gains.append(scores[0] - scores[1])
    assert np.mean(gains) >= -0.003


def test_every_permutation_of_members_gives_the_same_mean():
    members, _ = pool(11, [1, 2, 3])
    weights, given = np.array([0.2, 0.5, 0.3]), maps(1, 0.5, 0.3)
    found = combine(members, weights, given)
    for order in itertools.permutations(range(3)):
        permuted = list(order)
        np.testing.assert_allclose(
            combine(members[permuted], weights[permuted], [given[place] for place in order]), found, atol=1e-12
        )
