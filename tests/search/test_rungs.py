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
        rungs.wait(trial)
    return rungs


def test_nothing_is_promotable_before_eta_trials_are_there():
    assert filled([0.9, 0.1]).promotable() is None
    assert filled([0.9, 0.1, 0.2]).promotable() == 0


def test_the_best_third_goes_on_and_each_trial_once():
    rungs = filled([0.1, 0.6, 0.3, 0.5, 0.2, 0.4])
    assert rungs.promotable() == 1
    rungs.leave(1)
    assert rungs.promotable() == 3
    rungs.leave(3)
    assert rungs.promotable() is None
    rungs.wait(3)
    assert rungs.promotable() == 3


def test_the_highest_rung_comes_first():
    rungs = filled([0.1, 0.2, 0.3, 0.9], epoch=1)
    for trial in range(3):
        rungs.report(trial, 3, trial)
        rungs.wait(trial)
    assert rungs.promotable() == 2


def test_epochs_between_rungs_do_not_count():
    assert filled([0.1, 0.2, 0.3], epoch=2).promotable() is None


def test_best_ranks_the_higher_rung_first_and_leaves_out_the_dropped():
    rungs = filled([0.9, 0.1, 0.5])
    rungs.report(1, 3, 0.0)
    assert list(rungs.best()) == [1, 0, 2]
    rungs.drop(0)
    rungs.drop(7)  # it has reached no rung yet
    rungs.report(7, 1, 0.7)
    assert list(rungs.best()) == [1, 2]
    rungs.restore(0)
    rungs.restore(7)
    assert list(rungs.best()) == [1, 0, 7, 2]


def test_the_scores_of_the_dropped_still_count():
    rungs = filled([0.9, 0.1, 0.5])
    rungs.leave(0)
    rungs.drop(0)
    assert rungs.promotable() is None  # the best third is the dropped trial


@pytest.mark.parametrize(("scores", "survives"), [([0.5], True), ([0.5, 0.9, 0.1], False), ([0.5, 0.4, 0.1], True)])
def test_stopping_keeps_the_best_third_and_at_least_one(scores, survives):
    assert filled(scores).survives(0) is survives


def test_next_level():
    rungs = Rungs(LEVELS, 3)
    assert [rungs.next_level(epoch) for epoch in (0, 1, 2, 3, 8)] == [1, 3, 3, 9, 9]


reports = st.lists(st.tuples(st.integers(0, 11), st.sampled_from([1, 2, 3, 4, 9]), st.integers(0, 5)), unique_by=lambda r: r[:2])


def told(given_reports):
    rungs = Rungs(LEVELS, 3)
    for trial, epoch, score in given_reports:
        rungs.report(trial, epoch, score)
    for trial in range(12):
        rungs.wait(trial)
    return rungs


@given(reports, st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(given_reports, shuffler: random.Random):
    shuffled = list(given_reports)
    shuffler.shuffle(shuffled)
    one, other = told(given_reports), told(shuffled)
    assert one.promotable() == other.promotable()
    assert list(one.best()) == list(other.best())


@given(reports, st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_the_answers_are_those_of_a_walk_over_all_trials(given_reports, left, dropped):
    rungs = told(given_reports)
    for trial in left:
        rungs.leave(trial)
    for trial in dropped:
        rungs.drop(trial)
    at = {level: {trial: score for trial, epoch, score in given_reports if epoch == level} for level in LEVELS}
    highest = {trial: level for level in LEVELS for trial in at[level]}
    promotable = None
    for level in LEVELS[:-1]:
        ranked = sorted(at[level], key=lambda trial: (-at[level][trial], trial))
        best = (trial for trial in ranked[: len(ranked) // 3] if trial not in left and highest[trial] == level)
        promotable = next(best, promotable)
    assert rungs.promotable() == promotable
    assert list(rungs.best()) == sorted(set(highest) - dropped, key=lambda t: (-highest[t], -at[highest[t]][t], t))
