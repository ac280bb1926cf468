import math
import random

import pytest

from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import MOST_FAILURES, MOST_LOSSES, Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.space.settings import Budget
from tests.search.played import open_agenda, play


def check_whole(search, trials):
    """Epochs run from 1 without holes, everything has ended, and the best members are trained to the top."""
    for facts in trials:
        assert sorted(facts.reports) == list(range(1, facts.epochs + 1))
        assert facts.end is not None
    assert sum(facts.end == "complete" for facts in trials) >= min(search.final.members, len(trials))


@pytest.mark.parametrize("kind", ["promotion", "stopping", "none"])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_search_runs_to_its_end(make_search, tmp_path, kind, slots):
    search = make_search(kind=kind)
    agenda = open_agenda(search, tmp_path, slots)
    play(agenda, random.Random(0))
    assert agenda.has_nothing_left
    agenda.close()
    trials = agenda.ledger.trials()
    assert len(trials) == 12
    if kind != "stopping":  # which trains to the top whatever survives, and no more
        check_whole(search, trials)
    if kind == "promotion":
        assert sum(facts.epochs for facts in trials) < 12 * 9 / 2


def test_never_more_legs_than_slots(make_search, tmp_path):
    agenda = open_agenda(make_search(), tmp_path, slots=2)
    assert [agenda.next() is not None for _ in range(4)] == [True, True, False, False]


def test_a_search_with_one_slot_repeats_exactly(make_search, tmp_path):
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        agenda = open_agenda(make_search(seed=5), tmp_path / name, slots=1)
        play(agenda, random.Random(0))
        agenda.close()
        runs.append(agenda.ledger.trials())
    assert runs[0] == runs[1]


@pytest.mark.parametrize("kind", ["promotion", "stopping", "none"])
@pytest.mark.parametrize("seed", range(15))
def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_happened(make_search, tmp_path, seed, kind):
    """One slot: the decisions of the runs that were killed are those of a run that was not."""
    chooser = random.Random(seed)
    budget = "{trials: 12}" if seed % 2 else f"{{epochs: {chooser.randint(20, 60)}}}"
    search = make_search(seed=3, kind=kind, budget=budget)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = open_agenda(search, tmp_path / "whole", slots=1)
    play(whole, chooser)
    whole.close()
    while True:
        agenda = open_agenda(search, tmp_path / "killed", slots=1)
        play(agenda, chooser, most_steps=chooser.randint(0, 6))
        if agenda.has_nothing_left:
            break
    agenda.close()
    assert agenda.ledger.trials() == whole.ledger.trials()


def held_back(make_search, out, scores):
    """Return a search by `stopping` whose budget is spent on the first rung, and the trials' scores there."""
    search = make_search(kind="stopping", budget="{epochs: 4, reserve: 0.0}").model_copy(update={"sampler": "random"})
    agenda = open_agenda(search, out, slots=4)
    for number in [agenda.next().number for _ in scores]:
        agenda.report(number, EpochReport(1, scores[number], {}))
    return search, agenda


def test_survivors_that_the_budget_holds_back_are_judged_again_and_a_new_driver_sees_the_same(make_search, tmp_path):
    search, agenda = held_back(make_search, tmp_path, [0.5, 0.9, 0.95, 0.99])
    alive = agenda.ledger.trials()
    assert [facts.end for facts in alive] == ["pruned"] * 3 + [None]
    assert open_agenda(search, tmp_path, slots=4).ledger.trials() == alive


def test_the_best_survivor_goes_on_first(make_search, tmp_path):
    _, agenda = held_back(make_search, tmp_path, [0.99, 0.5, 0.98, 0.6])
    agenda.extend(Budget(epochs=20))
    assert agenda.next().number == 0


def test_at_a_budgets_end_members_are_finished_at_once_also_while_others_train(make_search, tmp_path):
    """Three slots, two members: the second best waits at a rung, and as many trials are in training."""
    search = make_search(budget="{trials: 4}", members=2).model_copy(update={"sampler": "random"})
    agenda = open_agenda(search, tmp_path, slots=3)
    for number, value in enumerate([0.9, 0.8, 0.7]):
        assert agenda.next().number == number
        agenda.report(number, EpochReport(1, value, {}))
    legs = [agenda.next() for _ in range(3)]
    assert [(leg.number, leg.target) for leg in legs] == [(0, 3), (3, 1), (1, 9)]


def test_a_decision_is_in_the_ledger_before_the_leg_is_handed_out(make_search, tmp_path):
    agenda = open_agenda(make_search(), tmp_path, slots=1)
    leg = agenda.next()
    again = open_agenda(make_search(), tmp_path, slots=1)
    assert again.next() == leg


def test_a_report_is_taken_once(make_search, tmp_path):
    agenda = open_agenda(make_search(kind="none"), tmp_path)
    leg = agenda.next()
    assert not agenda.report(leg.number, EpochReport(1, 0.3, {}))
    assert not agenda.report(leg.number, EpochReport(1, 0.9, {}))
    assert agenda.ledger.trials()[0].reports == {1: 0.3}


@pytest.mark.parametrize("objective", [math.nan, math.inf])
def test_a_trial_without_a_finite_objective_fails_and_the_search_goes_on(make_search, tmp_path, objective):
    agenda = open_agenda(make_search(), tmp_path)
    leg = agenda.next()
    assert agenda.report(leg.number, EpochReport(1, objective, {}))
    assert agenda.ledger.trials()[leg.number].end == "failed"
    assert agenda.next().number == leg.number + 1


def test_a_trial_whose_legs_are_lost_again_and_again_fails(make_search, tmp_path):
    agenda = open_agenda(make_search(), tmp_path, slots=1)
    for _ in range(MOST_LOSSES):
        assert agenda.next().number == 0
        agenda.lose(0)
    assert agenda.trials[0].end == "failed"
    assert agenda.next().number == 1


def test_trials_that_patience_ends_at_a_rung_take_no_promotion_from_others(make_search, tmp_path):
    from hpa_search.space.search import Search

    content = make_search(budget="{trials: 60}", members=1).model_dump()
    scheduler = {**content["scheduler"], "min_epochs": 3, "max_epochs": 9, "patience": 2}
    search = Search.model_validate({**content, "scheduler": scheduler, "sampler": "random"})
    agenda = open_agenda(search, tmp_path, slots=1)
    while (leg := agenda.next()) is not None:
        for epoch in range(leg.reported + 1, leg.target + 1):
            gain = -1 if leg.number % 2 else 1
            if agenda.report(leg.number, EpochReport(epoch, leg.parameters["learning_rate"] + gain * epoch, {})):
                break
    stale = [facts for facts in agenda.trials.values() if facts.ended == "no better in 2 epochs"]
    assert len(stale) == 30 and {facts.epochs for facts in stale} == {3}
    assert sum(facts.epochs == 9 for facts in agenda.trials.values()) == 60 // 9


def test_start_points_come_first_and_once(make_search, tmp_path):
    from hpa_search.space.search import Search

    search = Search.model_validate(
        {**make_search().model_dump(), "start_points": [{"learning_rate": 0.01}, {"learning_rate": 0.02}]}
    )
    agenda = open_agenda(search, tmp_path, slots=1)
    agenda.next()
    agenda = open_agenda(search, tmp_path, slots=3)
    rates = [agenda.next().parameters["learning_rate"] for _ in range(3)]
    assert rates[:2] == [0.01, 0.02] and rates[2] not in rates[:2]


def test_a_search_whose_trials_all_fail_is_broken_off(make_search, tmp_path):
    """With a budget of epochs alone it would otherwise never end."""
    agenda = open_agenda(make_search(budget="{epochs: 20}"), tmp_path, slots=1)
    while (leg := agenda.next()) is not None:
        agenda.fail(leg.number, "the disk is on fire")
    assert len(agenda.trials) == MOST_FAILURES
    assert "the disk is on fire" in agenda.life.trouble and not agenda.has_nothing_left


def test_what_earlier_drivers_did_is_told_once(make_search, tmp_path):
    class Notes(list):
        def __getattr__(self, event):
            return lambda *arguments: self.append((event, *arguments))

    agenda = open_agenda(make_search(), tmp_path, slots=1)
    leg = agenda.next()
    agenda.report(leg.number, EpochReport(1, 0.5, {}))
    notes = Notes()
    again = Agenda(make_search(), Ledger.create(tmp_path, "toy"), slots=1, spent_seconds=lambda: 7.0, watchers=(notes,))
    ((event, trials, spent_seconds),) = notes
    assert (event, trials, spent_seconds()) == ("resumed", list(again.trials.values()), 7.0)


def stale_search(make_search, kind):
    from hpa_search.space.search import Search

    content = make_search(kind=kind).model_dump()
    return Search.model_validate({**content, "scheduler": {**content["scheduler"], "patience": 3}})


@pytest.mark.parametrize("kind", ["promotion", "none"])
def test_a_trial_that_gets_no_better_is_over_with_its_best_epoch_as_its_value(make_search, tmp_path, kind):
    search = stale_search(make_search, kind)
    agenda = open_agenda(search, tmp_path, slots=1)
    legs, objectives = [], [0.1, 0.5, 0.4, 0.5, 0.3, 0.9, 0.9, 0.9, 0.9]
    while not agenda.has_nothing_left and (leg := agenda.next()) is not None:
        legs = [leg]
        while legs:
            epoch = agenda.trials[leg.number].epochs + 1
            if agenda.report(leg.number, EpochReport(epoch, objectives[epoch - 1], {})):
                legs = []
    whole = [facts for facts in agenda.trials.values() if facts.end == "complete"]
    assert whole and all(sorted(facts.reports) == [1, 2, 3, 4, 5] for facts in whole)
    assert {facts.ended for facts in whole} == {"no better in 3 epochs"}
    assert {trial.value for trial in agenda.ledger.frozen() if trial.value is not None} == {0.5}


def test_a_trial_that_was_over_before_a_kill_is_ended_by_the_next_driver(make_search, tmp_path):
    search = stale_search(make_search, "none")
    agenda = open_agenda(search, tmp_path, slots=1)
    leg = agenda.next()
    for epoch, objective in enumerate([0.5, 0.1, 0.1, 0.1], start=1):
        agenda.ledger.report(leg.number, epoch, objective)
    again = open_agenda(search, tmp_path, slots=1)
    assert again.trials[leg.number].end == "complete"
    assert again.next().number == leg.number + 1


@pytest.mark.parametrize("slots", [1, 3])
def test_start_points_end_after_epochs_of_their_own(make_pointed, tmp_path, slots):
    agenda = open_agenda(make_pointed((3, 9, 1, 5)), tmp_path, slots)
    assert play(agenda, random.Random(slots)) == 18
    assert agenda.has_nothing_left
    trials = agenda.ledger.trials()
    assert [(facts.epochs, facts.target, facts.end) for facts in trials] == [(n, n, "complete") for n in (3, 9, 1, 5)]
    assert [facts.parameters["learning_rate"] for facts in trials] == [0.001, 0.002, 0.003, 0.004]


@pytest.mark.parametrize("seed", range(8))
def test_start_points_with_epochs_of_their_own_are_killed_at_any_moment(make_pointed, tmp_path, seed):
    chooser, search = random.Random(seed), make_pointed((2, 4, 1))
    while True:
        agenda = open_agenda(search, tmp_path, slots=chooser.randint(1, 3))
        play(agenda, chooser, most_steps=chooser.randint(0, 3))
        if agenda.has_nothing_left:
            break
    assert [(facts.epochs, facts.end) for facts in agenda.ledger.trials()] == [(2, "complete"), (4, "complete"), (1, "complete")]


def test_points_that_are_added_to_a_finished_search_are_trained_and_nothing_else(make_pointed, tmp_path):
    agenda = open_agenda(make_pointed((2, 4)), tmp_path)
    play(agenda, random.Random(0))
    agenda.close()
    before = agenda.ledger.trials()
    again = open_agenda(make_pointed((2, 4, 3)), tmp_path)
    assert not again.has_nothing_left
    assert play(again, random.Random(0)) == 3
    assert again.ledger.trials()[:2] == before and again.ledger.trials()[2].epochs == 3
