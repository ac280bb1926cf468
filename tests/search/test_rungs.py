import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.search.rungs import Rungs

LEVELS = (1, 3, 9, 27)


def filled(scores, epoch=1):
    rungs = Rungs(LEVELS, 3)
    for trial, score in enumerate(scores):
        rungs.report(trial, epoch, score)
        rungs.wait(trial)
    return rungs


def promotable(rungs):
    return next(rungs.promotable(), None)


def promote(rungs, trial, level=3):
    rungs.aim(trial, level)
    rungs.leave(trial)


def test_nothing_is_promotable_before_eta_trials_are_there():
    assert promotable(filled([0.9, 0.1])) is None
    assert promotable(filled([0.9, 0.1, 0.2])) == 0


def test_the_best_third_goes_on_and_each_trial_once():
    rungs = filled([0.1, 0.6, 0.3, 0.5, 0.2, 0.4])
    for trial in (1, 3):
        assert promotable(rungs) == trial
        promote(rungs, trial)
    assert promotable(rungs) is None


def test_of_a_rung_that_keeps_improving_no_more_than_a_third_go_on():
    rungs, gone = Rungs(LEVELS, 3), []
    for trial in range(30):
        rungs.report(trial, 1, trial)
        rungs.wait(trial)
        if (number := promotable(rungs)) is not None:
            promote(rungs, number)
            gone.append(number)
    assert gone == list(range(2, 30, 3))


def test_to_the_top_rung_a_ninth_of_the_rung_below_goes():
    rungs = filled([0.1 * trial for trial in range(17)], epoch=9)
    assert promotable(rungs) == 16
    promote(rungs, 16, level=27)
    assert promotable(rungs) is None
    rungs.report(17, 9, 0.0)
    assert promotable(rungs) == 15
    assert [rungs.quota(level, 20) for level in (1, 3, 9)] == [6, 6, 2]


def test_a_trial_that_ended_at_its_rung_has_not_gone_on():
    rungs = filled([0.9, 0.1, 0.5])
    rungs.leave(0)
    assert promotable(rungs) == 2


def test_a_trial_goes_beyond_each_rung_once():
    rungs = filled([0.1 * trial for trial in range(9)])
    rungs.aim(0, 9)
    rungs.aim(0, 3)
    rungs.aim(0, 9)
    rungs.leave(0)
    promoted = []
    while (number := promotable(rungs)) is not None:
        promoted.append(number)
        promote(rungs, number)
    assert promoted == [8, 7]


def test_a_trial_that_is_to_train_to_the_top_takes_no_place_at_a_rung_before_it_is_there():
    """Three are to be finished and fail before rung 3. Of the nine that reach it three go on all the same."""
    rungs = filled([0.1 * trial for trial in range(12)])
    for trial in range(3):
        rungs.aim(trial, 9)
        rungs.leave(trial)
        rungs.drop(trial)
    for trial in range(3, 12):
        rungs.report(trial, 3, 0.1 * trial)
        rungs.wait(trial)
    for expected in (11, 10, 9):
        assert next(rungs.promotable()) == expected
        rungs.aim(expected, 9)
        rungs.leave(expected)
    assert list(rungs.promotable()) == []
    rungs.aim(8, 9)
    rungs.report(8, 9, 0.5)
    assert rungs._gone == [7, 4, 0, 0]


def test_the_highest_rung_comes_first():
    rungs = filled([0.1, 0.2, 0.3, 0.9], epoch=1)
    for trial in range(3):
        rungs.report(trial, 3, trial)
        rungs.wait(trial)
    assert list(rungs.promotable()) == [2, 3]


def test_epochs_between_rungs_do_not_count():
    assert promotable(filled([0.1, 0.2, 0.3], epoch=2)) is None


def test_best_ranks_by_the_expected_score_and_leaves_out_the_dropped():
    rungs = filled([0.9, 0.1, 0.5])
    assert list(rungs.best()) == [0, 2, 1]
    rungs.report(1, 3, 0.8)  # 0.7 more than at the rung below; so much is expected of the others
    assert list(rungs.best()) == [0, 2, 1]
    rungs.drop(0)
    rungs.drop(7)  # it has reached no rung yet
    rungs.report(7, 1, 0.7)
    assert list(rungs.best()) == [2, 1]
    rungs.restore(0)
    rungs.restore(7)
    assert list(rungs.best()) == [0, 7, 2, 1] and rungs.first(2) == [0, 7]


def test_of_equal_expectations_the_one_from_the_higher_rung_comes_first():
    rungs = filled([0.5, 0.5])
    rungs.report(1, 3, 0.5)
    assert list(rungs.best()) == [1, 0]


def expected(rungs, trial):
    return next(reversed(rungs.expectations(trial).values()), None)


def test_a_trial_is_expected_to_gain_what_the_promoted_have_gained():
    rungs = filled([0.1, 0.2, 0.3])
    assert [expected(rungs, trial) for trial in (0, 2, 7)] == [0.1, 0.3, None]
    rungs.report(2, 3, 0.5)
    assert expected(rungs, 0) == pytest.approx(0.3)
    rungs.report(2, 9, 0.6)
    assert [expected(rungs, trial) for trial in range(3)] == pytest.approx([0.4, 0.5, 0.6])
    assert rungs.expectations(2) == pytest.approx({0: 0.6, 1: 0.6, 2: 0.6}) and rungs.expectations(7) == {}


def test_the_scores_of_the_dropped_still_count():
    rungs = filled([0.9, 0.1, 0.5])
    promote(rungs, 0)
    rungs.drop(0)
    assert promotable(rungs) is None  # the best third is the dropped trial


@pytest.mark.parametrize(("scores", "survives"), [([0.5], True), ([0.5, 0.9, 0.1], False), ([0.5, 0.4, 0.1], True)])
def test_stopping_keeps_the_best_third_and_at_least_one(scores, survives):
    assert filled(scores).survives(0) is survives


def test_next_level():
    rungs = Rungs(LEVELS, 3)
    assert [rungs.next_level(epoch) for epoch in (0, 1, 2, 3, 8)] == [1, 3, 3, 9, 9]


reports = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from([1, 2, 3, 4, 9, 27]), st.integers(0, 5)), unique_by=lambda r: r[:2]
)


def told(given_reports, targets=()):
    rungs = Rungs(LEVELS, 3)
    for trial, epoch, score in given_reports:
        rungs.report(trial, epoch, score)
    for trial in range(12):
        rungs.wait(trial)
    for trial, target in targets:
        rungs.aim(trial, target)
    return rungs


@given(reports, st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(given_reports, shuffler: random.Random):
    shuffled = list(given_reports)
    shuffler.shuffle(shuffled)
    one, other = told(given_reports), told(shuffled)
    assert list(one.promotable()) == list(other.promotable())
    assert list(one.best()) == list(other.best())
    assert [one.expectations(trial) for trial in range(12)] == [other.expectations(trial) for trial in range(12)]


targets = st.lists(st.tuples(st.integers(0, 11), st.sampled_from(LEVELS)), max_size=12)


@given(reports, targets, st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_the_answers_are_those_of_a_walk_over_all_trials(given_reports, aimed, left, dropped):
    rungs = told(given_reports, aimed)
    for trial in left:
        rungs.leave(trial)
    for trial in dropped:
        rungs.drop(trial)
    at = {level: {trial: score for trial, epoch, score in given_reports if epoch == level} for level in LEVELS}
    highest = {trial: level for level in LEVELS for trial in at[level]}
    aims = {trial: max(target for number, target in aimed if number == trial) for trial, _ in aimed}
    to_promote = []
    for level, share in ((9, 9), (3, 3), (1, 3)):
        waiting = [trial for trial in at[level] if trial not in left and highest[trial] == level]
        if waiting and sum(aims.get(trial, 0) > level for trial in at[level]) < len(at[level]) // share:
            to_promote.append(min(waiting, key=lambda trial: (-at[level][trial], trial)))
    assert list(rungs.promotable()) == to_promote
    ranked = sorted(set(highest) - dropped, key=lambda t: (-expected(rungs, t), -highest[t], -at[highest[t]][t], t))
    assert list(rungs.best()) == ranked
