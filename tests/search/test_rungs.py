import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.search.rungs import Rungs

LEVELS = (1, 3, 9)


def filled(scores, epoch=1):
    rungs = Rungs(LEVELS, 3)
    for trial, score in enumerate(scores):
        rungs.report(trial, epoch, score)
    return rungs


def test_nothing_is_promotable_before_eta_trials_are_there():
    assert filled([0.9, 0.1]).promotable(range(2)) is None
    assert filled([0.9, 0.1, 0.2]).promotable(range(3)) == 0


def test_the_best_third_goes_on_and_each_trial_once():
    rungs = filled([0.1, 0.6, 0.3, 0.5, 0.2, 0.4])
    assert rungs.promotable(range(6)) == 1
    rungs.report(1, 2, 0.7)  # in training beyond its rung
    assert rungs.promotable(range(6)) == 3
    rungs.report(3, 3, 0.7)
    assert rungs.promotable({0, 2, 4, 5}) is None


def test_the_highest_rung_comes_first():
    rungs = filled([0.1, 0.2, 0.3, 0.9], epoch=1)
    for trial in range(3):
        rungs.report(trial, 3, trial)
    assert rungs.promotable(range(4)) == 2


def test_epochs_between_rungs_do_not_count():
    rungs = filled([0.1, 0.2, 0.3], epoch=2)
    assert rungs.promotable(range(3)) is None


def test_best_ranks_the_higher_rung_first_and_leaves_out_the_unknown():
    rungs = filled([0.9, 0.1, 0.5])
    rungs.report(1, 3, 0.0)
    assert rungs.best([0, 1, 2, 7]) == [1, 0, 2]


@pytest.mark.parametrize(("scores", "survives"), [([0.5], True), ([0.5, 0.9, 0.1], False), ([0.5, 0.4, 0.1], True)])
def test_stopping_keeps_the_best_third_and_at_least_one(scores, survives):
    assert filled(scores).survives(0) is survives


def test_next_level():
    rungs = Rungs(LEVELS, 3)
    assert [rungs.next_level(epoch) for epoch in (0, 1, 2, 3, 8)] == [1, 3, 3, 9, 9]


reports = st.lists(st.tuples(st.integers(0, 11), st.sampled_from([1, 2, 3, 4, 9]), st.integers(0, 5)), unique_by=lambda r: r[:2])


@given(reports, st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(given_reports, shuffler: random.Random):
    shuffled = list(given_reports)
    shuffler.shuffle(shuffled)
    one, other = Rungs(LEVELS, 3), Rungs(LEVELS, 3)
    for trial, epoch, score in given_reports:
        one.report(trial, epoch, score)
    for trial, epoch, score in shuffled:
        other.report(trial, epoch, score)
    assert one.promotable(range(12)) == other.promotable(range(12))
    assert one.best(range(12)) == other.best(range(12))


@given(reports)
def test_a_promoted_trial_is_among_the_best_third_of_its_rung(given_reports):
    rungs = Rungs(LEVELS, 3)
    for trial, epoch, score in given_reports:
        rungs.report(trial, epoch, score)
    chosen = rungs.promotable(range(12))
    if chosen is not None:
        level = max(epoch for trial, epoch, _ in given_reports if trial == chosen)
        there = {trial: score for trial, epoch, score in given_reports if epoch == level}
        assert sum(score > there[chosen] for score in there.values()) < len(there) // 3
