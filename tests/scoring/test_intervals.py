import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hpa_search.scoring.intervals import (
    Interval,
    bootstrap_interval,
    f1_intervals,
    group_ids,
    group_sums,
    paired_difference,
    redraws,
)
from hpa_search.scoring.metrics import f1_per_class, macro_f1
from tests.scoring.samples import seeds


def draw(seed, rows=500, classes=5, prevalence=0.2, accuracy=0.85):
    """Labels and predictions that agree with them at the given rate."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, classes)) < prevalence
    return np.where(rng.random(labels.shape) < accuracy, labels, ~labels), labels


def edges(found):
    return found.value, found.low, found.high


def test_around_is_the_normal_interval_of_the_redraws_spread():
    drawn = np.array([0.1, 0.2, 0.4, 0.3])
    found = Interval.around(0.7, drawn, 0.9)
    half = norm.ppf(0.95) * drawn.std(ddof=1)
    assert edges(found) == pytest.approx((0.7, 0.7 - half, 0.7 + half))
    # Where the redraws lie does not move it.
    assert edges(Interval.around(0.7, drawn - 5, 0.9)) == pytest.approx(edges(found))
    assert edges(Interval.around(0.7, np.full(3, 0.2), 0.9)) == pytest.approx((0.7, 0.7, 0.7))


def test_interval_is_the_plain_bootstraps():
    predicted, labels = draw(0, rows=120)
    rng = np.random.default_rng(9)
    plain = []
    for _ in range(3000):
        rows = rng.integers(0, 120, 120)
        plain.append(macro_f1(predicted[rows], labels[rows]))
    interval = bootstrap_interval(predicted, labels, level=0.8, samples=3000)
    assert interval.value == macro_f1(predicted, labels)
    assert interval.level == 0.8
    half = norm.ppf(0.9) * np.std(plain, ddof=1)
    assert edges(interval) == pytest.approx((interval.value, interval.value - half, interval.value + half), abs=0.003)


def test_interval_covers_the_truth_as_often_as_it_says():
    truth = macro_f1(*draw(10**6, rows=400_000))
    covered = 0
    for seed in range(200):
        interval = bootstrap_interval(*draw(seed, rows=300), samples=300)
        covered += interval.low <= truth <= interval.high
    assert 0.84 <= covered / 200 <= 0.96


def test_seed_decides():
    predicted, labels = draw(1)
    assert bootstrap_interval(predicted, labels, seed=3) == bootstrap_interval(predicted, labels, seed=3)
    assert bootstrap_interval(predicted, labels, seed=3) != bootstrap_interval(predicted, labels, seed=4)


def test_groups_are_drawn_as_wholes():
    predicted, labels = draw(2, rows=100)
    # Ten copies of each row are no more evidence than one, in whatever order they lie.
    order = np.random.default_rng(0).permutation(1000)
    copies, groups = np.repeat(np.arange(100), 10)[order], np.repeat([f"g{i:03}" for i in range(100)], 10)[order]
    one = bootstrap_interval(predicted, labels)
    grouped = bootstrap_interval(predicted[copies], labels[copies], groups=groups)
    assert grouped == one
    ungrouped = bootstrap_interval(predicted[copies], labels[copies])
    assert ungrouped.high - ungrouped.low < 0.5 * (one.high - one.low)


def test_paired_difference():
    good, labels = draw(3, rows=2000, accuracy=0.95)
    rng = np.random.default_rng(5)
    worse = np.where(rng.random(labels.shape) < 0.02, ~good, good)
    difference = paired_difference(good, worse, labels)
    assert difference.value == pytest.approx(macro_f1(good, labels) - macro_f1(worse, labels))
    assert 0 < difference.low < difference.value < difference.high
    mirrored = paired_difference(worse, good, labels)
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((-difference.value, -difference.high, -difference.low))
    # Sharing the rows takes out their luck.
    single = bootstrap_interval(good, labels)
    assert difference.high - difference.low < single.high - single.low
    nothing = paired_difference(good, good, labels)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


WAYS = {
    "one": bootstrap_interval,
    "each class": f1_intervals,
    "two": lambda predicted, labels, **options: paired_difference(predicted, predicted, labels, **options),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": 1.0}, "level"), ({"level": 0.0}, "level"), ({"samples": 1}, "samples"), ({"groups": [1, 2]}, "one a row")],
)
def test_wrong_options_are_refused(way, options, message):
    with pytest.raises(ValueError, match=message):
        WAYS[way](*draw(0, rows=10), **options)


@pytest.mark.parametrize("way", WAYS)
def test_wrong_labels_are_refused(way):
    with pytest.raises(ValueError, match="predictions must hold 0 and 1"):
        WAYS[way](np.full((3, 2), np.nan), np.ones((3, 2)))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shape"):
        bootstrap_interval(np.ones((2, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="shape"):
        paired_difference(np.ones((3, 2)), np.ones((3, 1)), np.ones((3, 2)))


@pytest.mark.parametrize("values", [(0.5, 0.6, 0.4, 0.9), (0.5, 0.4, 0.6, 1.5), (float("nan"), 0.4, 0.6, 0.9)])
def test_interval_is_checked(values):
    with pytest.raises(ValueError, match="interval|level"):
        Interval(*values)


def test_each_class_has_the_interval_that_it_has_alone():
    predicted, labels = draw(4, rows=200, classes=4)
    predicted[:, 3] = labels[:, 3] = False
    found = f1_intervals(predicted, labels)
    assert [interval.value for interval in found] == pytest.approx(f1_per_class(predicted, labels))
    for c, interval in enumerate(found[:3]):
        assert edges(interval) == pytest.approx(edges(bootstrap_interval(predicted[:, [c]], labels[:, [c]])))
    assert edges(found[3]) == (0, 0, 0)
    order = [2, 0, 3, 1]
    assert [edges(one) for one in f1_intervals(predicted[:, order], labels[:, order])] == [edges(found[c]) for c in order]


def test_a_class_that_is_never_hit_or_never_missed_is_not_certain():
    """Wilson's interval of the share of hits, by hand: 0 of 8, and 3 of 3, at the level where z is 1."""
    level = 0.6826894921370859
    labels = np.zeros((20, 2), dtype=bool)
    labels[:8, 0], labels[:3, 1] = True, True
    predicted = labels & [False, True]
    missed, hit = f1_intervals(predicted, labels, level=level)
    assert edges(missed) == pytest.approx((0, 0, 2 / 9 / (1 + 1 / 9)))
    assert edges(hit) == pytest.approx((1, 2 * 0.75 / 1.75, 1))


def test_a_class_without_positives_widens_the_interval_of_the_mean():
    predicted, labels = draw(6, rows=400, classes=4)
    known = bootstrap_interval(predicted, labels)
    predicted[:, 0] = labels[:, 0] = False
    plain, unknown = bootstrap_interval(predicted[:, 1:], labels[:, 1:]), bootstrap_interval(predicted, labels)
    assert unknown.value == pytest.approx(plain.value * 3 / 4)
    deviation = ((plain.high - plain.low) * 3 / 4) ** 2 + (2 * 1.6448536) ** 2 / 3 / 16
    assert unknown.high - unknown.low == pytest.approx(np.sqrt(deviation), rel=0.05)
    assert unknown.high - unknown.low > known.high - known.low


def test_a_rarer_class_has_a_wider_interval():
    rng = np.random.default_rng(0)
    labels = rng.random((2000, 2)) < [0.3, 0.01]
    predicted = np.where(rng.random(labels.shape) < 0.8, labels, False)
    common, rare = f1_intervals(predicted, labels)
    assert rare.high - rare.low > 3 * (common.high - common.low)


def test_one_row_has_an_interval_without_width():
    assert edges(bootstrap_interval([[1, 0]], [[1, 1]])) == (0.5, 0.5, 0.5)


@settings(max_examples=20)
@given(seeds, st.integers(1, 30), st.integers(2, 250))
def test_redraws_draw_as_many_rows_as_there_are(seed, rows, samples):
    drawn = np.concatenate(list(redraws(rows, samples, seed)))
    assert drawn.shape == (samples, rows)
    assert (drawn.sum(axis=1) == rows).all() and (drawn >= 0).all()


def test_every_row_is_drawn_alike_and_no_redraw_is_another():
    drawn = np.concatenate(list(redraws(50, 2000, 0)))
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.12)
    assert len(np.unique(drawn, axis=0)) == 2000


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["b", "a", "c"]), min_size=1, max_size=12))
def test_groups_are_summed(names):
    ids = group_ids(names, len(names))
    matrix = np.arange(2.0 * len(names), dtype=np.float32).reshape(-1, 2)
    expected = [sum(row for row, name in zip(matrix, names, strict=True) if name == group) for group in sorted(set(names))]
    np.testing.assert_array_equal(group_sums(matrix, ids), expected)
