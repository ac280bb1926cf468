import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from hpa_search.scoring.comparison import bootstrap_macro_ap, compare_settings
from hpa_search.scoring.intervals import redraws


def sample(rows=60, trials=3, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, classes)) < 0.3
    scores = np.round(labels + rng.normal(0, 1, (trials, rows, classes)), 1)  # with ties
    return scores, labels


def test_the_first_column_is_scikit_learn_s_macro_ap():
    scores, labels = sample()
    found = bootstrap_macro_ap(scores, labels, None, 5, 0)[:, 0]
    assert found == pytest.approx([average_precision_score(labels, one, average="macro") for one in scores])


def test_a_redraw_is_scikit_learn_s_ap_of_the_rows_it_draws():
    scores, labels = sample()
    found = bootstrap_macro_ap(scores, labels, None, 20, 7)
    counts = np.concatenate(list(redraws(len(labels), 20, 7))).astype(int)
    for redraw, count in enumerate(counts):
        rows = np.repeat(np.arange(len(labels)), count)
        present = labels[rows].any(axis=0)
        expected = [average_precision_score(labels[rows][:, present], one[rows][:, present], average="macro") for one in scores]
        assert found[:, 1 + redraw] == pytest.approx(expected)


def test_whole_groups_are_drawn():
    scores, labels = sample(rows=8)
    groups = np.repeat(["a", "b"], 4)
    found = bootstrap_macro_ap(scores, labels, groups, 30, 0)
    halves = [bootstrap_macro_ap(scores[:, part], labels[part], None, 2, 0)[:, 0] for part in (slice(0, 4), slice(4, 8))]
    seen = {tuple(np.round(column, 9)) for column in found.T}
    assert seen <= {tuple(np.round(column, 9)) for column in (found[:, 0], *halves)}


def test_a_better_setting_comes_first_and_its_lead_is_seen():
    rng = np.random.default_rng(0)
    labels = rng.random((300, 5)) < 0.3
    noise = rng.normal(0, 1, (4, 300, 5))
    scores = noise + labels * np.array([0.3, 2.0, 0.3, 2.0])[:, None, None]
    best, other = compare_settings(scores, labels, ["poor", "good", "poor", "good"], samples=200)
    assert (best.name, best.trials, best.to_best) == ("good", 2, None)
    assert other.to_best is not None and other.to_best.high < 0
    assert other.to_best.value == pytest.approx(other.macro_ap.value - best.macro_ap.value)
    assert best.spread >= 0
    for found in (best, other):
        assert found.macro_ap.low < found.macro_ap.value < found.macro_ap.high


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    """Two predictors of known skill on 150 fresh sets of rows: their true difference is that on very many rows."""
    rng = np.random.default_rng(3)

    def draw(rows):
        labels = rng.random((rows, 2)) < [0.3, 0.1]
        return labels * np.array([1.0, 1.5])[:, None, None] + rng.normal(size=(2, rows, 2)), labels

    truth = float(np.diff(bootstrap_macro_ap(*draw(40_000), None, 2, 0)[:, 0])[0])
    held = 0
    for _ in range(150):
        other = compare_settings(*draw(200), ["poor", "good"], samples=100)
        lacks = next((found.to_best for found in other if found.name == "poor" and found.to_best), None)
        held += lacks is not None and lacks.low <= -truth <= lacks.high
    assert 0.8 <= held / 150 <= 0.97


def test_order_of_trials_rows_and_classes_does_not_matter():
    scores, labels = sample(trials=4)
    found = compare_settings(scores, labels, ["a", "b", "a", "c"], samples=20)
    order, classes = [3, 1, 0, 2], [2, 0, 3, 1]
    other = compare_settings(scores[order][:, :, classes], labels[:, classes], ["c", "b", "a", "a"], samples=20)
    assert [one.name for one in other] == [one.name for one in found]
    for one, same in zip(other, found, strict=True):
        assert (one.macro_ap.value, one.macro_ap.low) == pytest.approx((same.macro_ap.value, same.macro_ap.low))
        assert one.spread == pytest.approx(same.spread, nan_ok=True)
    rows = np.random.default_rng(0).permutation(len(labels))
    shuffled = compare_settings(scores[:, rows], labels[rows], ["a", "b", "a", "c"], samples=20)
    assert [one.macro_ap.value for one in shuffled] == pytest.approx([one.macro_ap.value for one in found])


def test_redraws_without_a_positive_say_nothing():
    scores, labels = sample(classes=1)
    labels[:] = False
    labels[3] = True
    found = compare_settings(scores, labels, ["a", "b", "a"], samples=40)
    assert all(np.isfinite([one.macro_ap.low, one.macro_ap.high]).all() for one in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores, labels: (np.where(scores > 1, np.nan, scores), labels), "scores hold NaN"),
        (lambda scores, labels: (scores[:, :10], labels), "shape"),
        (lambda scores, labels: (scores, labels & False), "at least one class"),
    ],
)
def test_wrong_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        compare_settings(*change(*sample()), ["a", "b", "a"], samples=5)


def test_equal_settings_do_not_differ():
    scores, labels = sample(trials=1)
    twice = compare_settings(np.concatenate([scores, scores]), labels, ["a", "b"], samples=50)[1]
    assert (twice.to_best.low, twice.to_best.value, twice.to_best.high) == (0, 0, 0)
    assert np.isnan(twice.spread)
    assert twice.to_best_with_trials is None


def test_settings_that_differ_in_their_seeds_alone_differ_no_more_often_than_the_level_allows():
    """Trials of one setting under two names, each with luck of its own, as a seed gives it."""
    rng = np.random.default_rng(4)
    apart = {"rows": 0, "seeds": 0}
    for _ in range(150):
        labels = rng.random((300, 3)) < 0.3
        luck = rng.normal(1.0, 0.25, (6, 1, 1))
        scores = labels * luck + rng.normal(size=(1, 300, 3))
        other = compare_settings(scores, labels, ["a", "b"] * 3, samples=60)[1]
        apart["rows"] += other.to_best.high < 0
        apart["seeds"] += other.to_best_with_trials.high < 0
    assert apart["rows"] / 150 > 0.3
    assert apart["seeds"] / 150 < 0.16
