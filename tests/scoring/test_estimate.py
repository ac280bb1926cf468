import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.cuts import exact
from hpa_search.scoring.ensemble import combine, greedy
from hpa_search.scoring.estimate import NestedEstimate, out_of_fold, stratified_folds
from hpa_search.scoring.metrics import macro_f1
from hpa_search.scoring.thresholds import decide
from tests.scoring.samples import seeds


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


@settings(max_examples=40)
@given(seeds, st.integers(2, 40), st.integers(2, 5), st.booleans())
def test_every_fold_has_rows_and_groups_stay_whole(seed, rows, folds, grouped):
    rng = np.random.default_rng(seed)
    labels, groups = rng.random((rows, 3)) < 0.2, rng.integers(0, rows, rows) if grouped else np.arange(rows)
    units = len(np.unique(groups))
    if units < folds:
        with pytest.raises(ValueError, match="folds must lie between 2 and"):
            stratified_folds(labels, folds, seed, groups)
        return
    fold = stratified_folds(labels, folds, seed, groups)
    assert set(fold) == set(range(folds))
    assert len({(g, f) for g, f in zip(groups, fold, strict=True)}) == units


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


def weak_members(seed, rows, members=6, classes=6):
    rng = np.random.default_rng(seed)
    truth = rng.normal(-3, 1.5, (rows, classes))
    labels = rng.random(truth.shape) < expit(truth)
    return truth + 1.5 * rng.normal(size=(members, *truth.shape)), labels


def greedily(logits, labels):
    """A final stage that flatters itself: greedy weights, then the exact search."""
    maps = [Platt(np.ones(logits.shape[2]), np.zeros(logits.shape[2]))] * len(logits)

    def choose(rows):
        weights = greedy(logits[:, rows], labels[rows])
        thresholds = exact(expit(combine(logits[:, rows], weights, maps)), labels[rows])
        return lambda others: {"it": decide(expit(combine(logits[:, others], weights, maps)), thresholds).labels}

    return choose


def test_out_of_fold_is_nearer_the_truth_than_what_was_chosen_on_all():
    naive, honest, fitted, fresh = [], [], np.arange(300), np.arange(300, 4300)
    for seed in range(6):
        logits, labels = weak_members(seed, 4300)
        choose = greedily(logits, labels)
        chosen = choose(fitted)
        truth = macro_f1(chosen(fresh)["it"], labels[fresh])
        predicted = out_of_fold(labels[fitted], choose)["it"]
        naive.append(macro_f1(chosen(fitted)["it"], labels[fitted]) - truth)
        honest.append(macro_f1(predicted, labels[fitted]) - truth)
    assert np.mean(naive) > 0.03
    assert abs(np.mean(honest)) < np.mean(naive) / 2


def test_optimism_is_what_the_naive_number_promises_too_much():
    assert NestedEstimate(0.5, 0.7, np.ones((1, 1), dtype=bool)).optimism == pytest.approx(0.2)


@pytest.mark.parametrize("groups", [None, np.arange(200) // 2])
def test_no_choice_is_shown_the_rows_it_is_asked_for(groups):
    labels, seen, told = rare_labels(0, 200), [], []

    def choose(rows):
        def predict(others):
            seen.append((set(rows), set(others)))
            return {"all": np.ones((len(others), 6), dtype=bool)}

        return predict

    out_of_fold(labels, choose, folds=4, groups=groups, tell=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(seen) == 4
    assert sorted(row for _, held_out in seen for row in held_out) == list(range(200))
    names = np.arange(200) if groups is None else groups
    for rows, held_out in seen:
        assert rows | held_out == set(range(200))
        assert not set(names[list(rows)]) & set(names[list(held_out)])


def test_each_row_gets_the_labels_of_the_choice_that_did_not_see_it():
    labels, fold = rare_labels(1, 100), stratified_folds(rare_labels(1, 100), 4, 9)
    marks = np.array([[bool(f & 1), bool(f & 2), False, False, False, False] for f in range(4)])

    def choose(rows):
        (missing,) = set(range(4)) - set(fold[rows])
        return lambda others: {way: np.tile(marks[missing] ^ way, (len(others), 1)) for way in (False, True)}

    found = out_of_fold(labels, choose, folds=4, seed=9)
    np.testing.assert_array_equal(found[False], marks[fold])
    np.testing.assert_array_equal(found[True], ~marks[fold])
