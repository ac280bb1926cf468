import numpy as np
import pytest
from scipy.special import expit

from hpa_search.scoring.ensemble import blend, greedy, member_probabilities
from hpa_search.scoring.estimate import Interval, bootstrap_interval, nested_estimate, paired_difference, stratified_folds
from hpa_search.scoring.metrics import macro_f1
from hpa_search.scoring.thresholds import decide, exact


def draw(seed, rows=500, classes=5, prevalence=0.2, accuracy=0.85):
    """Labels and predictions that agree with them at the given rate."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, classes)) < prevalence
    return np.where(rng.random(labels.shape) < accuracy, labels, ~labels), labels


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
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(plain, [0.1, 0.9]), atol=0.004)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": 1.0}, "level"), ({"samples": 1}, "samples"), ({"groups": [1, 2]}, "one a row")],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(*draw(0, rows=10), **options)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shape"):
        bootstrap_interval(np.ones((2, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="shape"):
        paired_difference(np.ones((3, 2)), np.ones((3, 1)), np.ones((3, 2)))


@pytest.mark.parametrize("values", [(0.5, 0.6, 0.4, 0.9), (0.5, 0.4, 0.6, 1.5), (float("nan"), 0.4, 0.6, 0.9)])
def test_interval_is_checked(values):
    with pytest.raises(ValueError, match="interval|level"):
        Interval(*values)


def rare_labels(seed, rows=1000):
    rng = np.random.default_rng(seed)
    return rng.random((rows, 6)) < np.array([0.5, 0.3, 0.1, 0.03, 0.01, 0.006])


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_even_and_stratified(seed):
    labels = rare_labels(seed)
    fold = stratified_folds(labels, folds=5, seed=seed)
    assert np.ptp(np.bincount(fold, minlength=5)) <= 1
    rarest = labels.sum(axis=0).argmin()
    assert np.ptp(np.bincount(fold[labels[:, rarest]], minlength=5)) <= 1
    for c in range(6):
        share = labels[:, c].sum() / 5
        assert np.abs(np.bincount(fold[labels[:, c]], minlength=5) - share).max() <= 3 + 2.5 * np.sqrt(share)


def test_folds_are_seeded():
    labels = rare_labels(0)
    np.testing.assert_array_equal(stratified_folds(labels, seed=1), stratified_folds(labels, seed=1))
    assert (stratified_folds(labels, seed=1) != stratified_folds(labels, seed=2)).any()


def test_folds_keep_groups_whole():
    labels = rare_labels(4)
    groups = np.random.default_rng(0).integers(0, 300, len(labels))
    fold = stratified_folds(labels, groups=groups)
    assert all(len(np.unique(fold[groups == group])) == 1 for group in np.unique(groups))
    assert set(fold) == {0, 1, 2, 3, 4}


def test_rows_without_labels_get_folds():
    assert set(stratified_folds(np.zeros((10, 3), dtype=bool), folds=2)) == {0, 1}


@pytest.mark.parametrize(("folds", "groups"), [(1, None), (11, None), (3, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])])
def test_too_few_or_too_many_folds_are_refused(folds, groups):
    with pytest.raises(ValueError, match="folds must lie between 2 and"):
        stratified_folds(np.ones((10, 2)), folds=folds, groups=groups)


def choose_greedily(member_logits, labels):
    """A final stage that flatters itself: greedy weights, then the exact search."""
    p = member_probabilities(member_logits)
    weights = greedy(p, labels)
    thresholds = exact(blend(p, weights), labels)
    return lambda logits: decide(blend(member_probabilities(logits), weights), thresholds).labels


def weak_members(seed, rows, members=6, classes=6):
    rng = np.random.default_rng(seed)
    truth = rng.normal(-3, 1.5, (rows, classes))
    labels = rng.random(truth.shape) < expit(truth)
    return truth + 1.5 * rng.normal(size=(members, *truth.shape)), labels


def test_nested_estimate_is_nearer_the_truth_than_the_naive_one():
    naive, honest = [], []
    for seed in range(6):
        logits, labels = weak_members(seed, 4300)
        predictor = choose_greedily(logits[:, :300], labels[:300])
        truth = macro_f1(predictor(logits[:, 300:]), labels[300:])
        estimate = nested_estimate(logits[:, :300], labels[:300], choose=choose_greedily)
        assert estimate.optimism == estimate.naive - estimate.honest
        assert estimate.honest == macro_f1(estimate.predicted, labels[:300])
        naive.append(estimate.naive - truth)
        honest.append(estimate.honest - truth)
    assert np.mean(naive) > 0.03
    assert abs(np.mean(honest)) < np.mean(naive) / 2


def test_nested_estimate_never_shows_a_choice_its_own_rows():
    logits, labels = weak_members(0, 200)
    logits[0, :, 0] = np.arange(200)
    groups = np.arange(200) // 2
    seen = []

    def choose(member_logits, fitted):
        assert len(fitted) == member_logits.shape[1]
        rows = set(member_logits[0, :, 0].astype(int))

        def predict(member_logits):
            held_out = set(member_logits[0, :, 0].astype(int))
            seen.append((rows, held_out))
            return np.ones((member_logits.shape[1], labels.shape[1]), dtype=bool)

        return predict

    nested_estimate(logits, labels, choose=choose, folds=4, groups=groups)
    *nested, naive = seen
    assert naive == (set(range(200)), set(range(200)))
    assert len(nested) == 4
    assert set.union(*(held_out for _, held_out in nested)) == set(range(200))
    for rows, held_out in nested:
        assert not {row // 2 for row in rows} & {row // 2 for row in held_out}


def test_nested_estimate_refuses_unequal_shapes():
    with pytest.raises(ValueError, match="member logits have shape"):
        nested_estimate(np.zeros((2, 3)), np.ones((2, 3)), choose=choose_greedily)
