import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.scoring.cuts import exact, grid_plus, plug_in, proportion, shared
from hpa_search.scoring.metrics import f1_per_class, macro_f1
from tests.scoring.samples import probabilities, seeds

cases = st.tuples(seeds, st.integers(1, 40), st.integers(1, 4), st.sampled_from([None, 1, 3, 10]))
LABELLED = {"exact": exact, "proportion": proportion, "shared": shared, "grid_plus": grid_plus}
EVERY = LABELLED | {"plug_in": lambda p, labels: plug_in(p)}


def expected_f1(p, kept):
    return 2 * p[kept].sum() / max(kept.sum() + p.sum(), 1e-300)


@settings(max_examples=80)
@given(cases)
def test_plug_in_has_the_highest_expected_f1_of_all_cuts(case):
    p, _ = probabilities(*case)
    for column, threshold in zip(p.T, plug_in(p), strict=True):
        cuts = [expected_f1(column, column >= value) for value in np.unique(column)]
        assert expected_f1(column, column >= threshold) == pytest.approx(max([*cuts, 0.0]), abs=1e-12)
        assert threshold == (pytest.approx(max(cuts) / 2, abs=1e-12) if column.any() else 1.0)


@settings(max_examples=80)
@given(cases)
def test_exact_has_the_highest_f1_of_all_cuts(case):
    p, labels = probabilities(*case)
    found = f1_per_class(p >= exact(p, labels), labels)
    for c in np.flatnonzero(labels.any(axis=0)):
        cuts = [f1_per_class(p[:, [c]] >= value, labels[:, [c]])[0] for value in np.unique(p[:, c])]
        assert found[c] == pytest.approx(max(cuts), abs=1e-12)


@settings(max_examples=60)
@given(cases)
def test_proportion_claims_as_many_as_there_are(case):
    p, labels = probabilities(*case)
    claimed = p >= proportion(p, labels)
    for c in np.flatnonzero(labels.any(axis=0)):
        last_kept = p[claimed[:, c], c].min()
        assert (p[:, c] > last_kept).sum() < labels[:, c].sum() <= claimed[:, c].sum() == (p[:, c] >= last_kept).sum()


@settings(max_examples=40)
@given(cases)
def test_grid_plus_takes_the_first_of_the_best_of_a_thousand_cuts(case):
    p, labels = probabilities(*case)
    grid = np.linspace(0, 0.999, 1000)
    scores = np.array([f1_per_class(p >= cut, labels) for cut in grid])
    np.testing.assert_allclose(grid_plus(p, labels), grid[scores.argmax(axis=0)] + 1e-4, rtol=0, atol=1e-15)


@settings(max_examples=30)
@given(cases)
def test_shared_has_the_highest_macro_f1_of_its_grid(case):
    p, labels = probabilities(*case)
    best = max(macro_f1(p >= cut / 100, labels) for cut in range(1, 100))
    assert macro_f1(p >= shared(p, labels), labels) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=30)
@given(case=cases, random=st.randoms(use_true_random=False))
def test_order_of_rows_and_classes_does_not_matter(name, case, random):
    p, labels = probabilities(*case)
    rows, classes = (random.sample(range(size), size) for size in p.shape)
    found, other = (EVERY[name](*pair) for pair in ((p, labels), (p[rows][:, classes], labels[rows][:, classes])))
    expected = found if name == "shared" else found[classes]
    np.testing.assert_allclose(other, expected, rtol=0, atol=1e-15)


def test_plug_in_by_hand():
    # sum p = 1.5; keeping 1: 1.8/2.5 = .72, keeping 2: 2.8/3.5 = .8, keeping 3: 3/4.5.
    assert plug_in([[0.9], [0.1], [0.5]])[0] == pytest.approx(0.4)
    assert plug_in([[0.8], [0.8]])[0] == pytest.approx(3.2 / 3.6 / 2)
    assert plug_in([[0.0], [0.0]])[0] == 1.0
    assert plug_in([[1.0], [0.0]])[0] == 0.5


def test_plug_in_is_half_the_best_f1_that_comes_of_it():
    p, labels = probabilities(0, rows=50_000, classes=3)
    thresholds = plug_in(p)
    np.testing.assert_allclose(thresholds, f1_per_class(p >= thresholds, labels) / 2, atol=0.01)


def test_exact_by_hand():
    p = np.array([[0.9, 0.9], [0.6, 0.6], [0.4, 0.4], [0.1, 0.1]])
    assert exact(p, [[1, 1], [1, 0], [0, 0], [0, 0]]) == pytest.approx([0.5, 0.75])
    assert exact(p[:, :1], [[0], [0], [0], [1]]) == pytest.approx([0.05])


def test_tied_rows_stay_together():
    p = np.array([[0.5], [0.5], [0.2]])
    assert exact(p, [[1], [0], [0]])[0] == pytest.approx(0.35)
    assert proportion(p, [[1], [0], [0]])[0] == pytest.approx(0.35)


def test_exact_takes_the_equal_cut_nearest_to_the_fallback():
    # Keeping 1 row: 2*1/(1+2); keeping 4: 2*2/(4+2): both 2/3.
    p, labels = np.array([[0.9], [0.7], [0.5], [0.3], [0.1]]), [[1], [0], [0], [1], [0]]
    assert exact(p, labels, fallback=0.9)[0] == pytest.approx(0.8)
    assert exact(p, labels, fallback=0.1)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("rule", [exact, proportion])
def test_a_class_without_positives_falls_back(rule):
    p, labels = probabilities(2)
    labels[:, [1, 3]] = False
    np.testing.assert_array_equal(rule(p, labels, fallback=[0.1, 0.2, 0.3, 0.4])[[1, 3]], [0.2, 0.4])
    assert rule(p, labels)[1] == 0.5


def test_shared_takes_the_middle_of_equal_cuts():
    assert shared([[0.2, 0.2], [0.8, 0.8]], [[0, 0], [1, 1]]) == pytest.approx(0.5, abs=0.011)
    assert shared([[0.2], [0.8]], [[0], [0]]) == 0.5


def test_grid_plus_replays_the_published_habits():
    # A class without positives: every cut scores 0, the first is 0, and nearly every row is claimed.
    assert grid_plus([[0.0002], [0.8]], [[0], [0]])[0] == pytest.approx(1e-4)
    # The lowest of the best cuts, just above the highest row to be left out.
    assert grid_plus([[0.2995], [0.8]], [[0], [1]])[0] == pytest.approx(0.3001)


def test_a_class_that_all_rows_carry_is_claimed_for_all():
    p, _ = probabilities(3)
    for name, rule in LABELLED.items():
        assert (p >= rule(p, np.ones_like(p))).mean() > (0.98 if name in ("exact", "proportion") else 0.5)


@pytest.mark.parametrize("low", [0.3, np.nextafter(0.3, 1)])
def test_neighbouring_floats_are_distinguished(low):
    p = np.array([[np.nextafter(low, 1)], [low]])
    for rule in (exact, proportion):
        assert (p >= rule(p, [[1], [0]])).ravel().tolist() == [True, False]


def test_single_precision_probabilities_are_cut_where_the_double_ones_are():
    p, labels = probabilities(4, rows=500)
    single = p.astype(np.float32)
    for rule in (exact, proportion, grid_plus):
        thresholds = rule(single, labels)
        np.testing.assert_array_equal(thresholds, rule(single.astype(np.float64), labels))
        np.testing.assert_array_equal(single >= thresholds, single.astype(np.float64) >= thresholds)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("p", "message"), [(np.array([[np.nan, 0.1]]), "probabilities hold NaN"), (np.array([[3.0, 0.1]]), "outside 0 to 1")]
)
def test_wrong_probabilities_are_refused(name, p, message):
    with pytest.raises(ValueError, match=message):
        EVERY[name](p, np.ones_like(p))


@pytest.mark.parametrize("name", LABELLED)
def test_unequal_shapes_are_refused(name):
    with pytest.raises(ValueError, match="shape"):
        LABELLED[name](np.full((2, 2), 0.5), np.ones((3, 2)))


@pytest.mark.parametrize("p", [[0.5, 0.5], np.zeros((0, 3))])
def test_plug_in_refuses_what_has_no_rows_and_classes(p):
    with pytest.raises(ValueError, match="rows x classes"):
        plug_in(p)
