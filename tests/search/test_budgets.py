"""How an agenda spends a budget of epochs or hours, and what an extension changes."""

import random

import pytest

from hpa_search.search.leg import EpochReport
from hpa_search.space.settings import Budget
from tests.search.played import Clock, advance, open_agenda, play


def test_the_budget_of_epochs_is_used_up_and_its_reserve_finishes_members(make_search, tmp_path):
    search = make_search(budget="{epochs: 60, reserve: 0.4}", members=2)
    agenda = open_agenda(search, tmp_path)
    play(agenda, random.Random(1))
    agenda.close()
    trials = agenda.ledger.trials()
    assert sum(facts.epochs for facts in trials) == 60
    assert sum(facts.end == "complete" for facts in trials) >= 2


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("epochs", [*range(10, 40), 200])
def test_of_any_budget_of_epochs_only_what_the_members_lack_is_kept(make_search, tmp_path, slots, epochs):
    """Members that promotions have finished need no reserve, and none is kept for those that cannot be finished."""
    search = make_search(budget=f"{{epochs: {epochs}, reserve: 0.9}}", members=1).model_copy(update={"sampler": "random"})
    agenda = open_agenda(search, tmp_path, slots)
    play(agenda, random.Random(0))
    assert sum(facts.epochs for facts in agenda.trials.values()) == epochs
    assert epochs < 200 or len(agenda.trials) > 40


def play_in_bursts(agenda, chooser, most_bursts):
    """Let several legs report before the next begins, as slots do; end all legs after so many bursts."""
    legs = []
    for _ in range(most_bursts):
        while (leg := agenda.next()) is not None:
            legs.append(leg)
        for leg in chooser.sample(legs, chooser.randint(0, len(legs))):
            advance(agenda, legs, leg)
    for leg in legs:
        agenda.release(leg.number)


@pytest.mark.parametrize("kind", ["promotion", "stopping", "none"])
@pytest.mark.parametrize("seed", range(4))
def test_no_budget_of_epochs_is_exceeded_whoever_reports_and_whatever_is_killed(make_search, tmp_path, kind, seed):
    chooser = random.Random(seed)
    search = make_search(budget=f"{{epochs: {chooser.randint(20, 70)}}}", kind=kind).model_copy(update={"sampler": "random"})
    while True:
        agenda = open_agenda(search, tmp_path, slots=4)
        play_in_bursts(agenda, chooser, chooser.randint(1, 30))
        if agenda.has_nothing_left:
            break
    assert search.budget.epochs - 9 < sum(facts.epochs for facts in agenda.ledger.trials()) <= search.budget.epochs


@pytest.mark.parametrize("again", ["extended", "begun again"])
def test_survivors_that_the_budget_held_back_go_on_when_there_is_more(make_search, tmp_path, again):
    search = make_search(budget="{epochs: 40, reserve: 0.0}", kind="stopping").model_copy(update={"sampler": "random"})
    agenda = open_agenda(search, tmp_path, slots=3)
    play(agenda, random.Random(0))
    held = set(agenda._roster.paused)
    assert held and agenda.has_nothing_left
    if again == "extended":
        agenda.extend(Budget(epochs=400))
    else:
        agenda.close()
        assert open_agenda(search, tmp_path, slots=3).has_nothing_left
        agenda = open_agenda(search.model_copy(update={"budget": Budget(epochs=400)}), tmp_path, slots=3)
        agenda.restore()
    play(agenda, random.Random(0))
    assert all(agenda.trials[number].epochs > 1 for number in held)


def test_in_the_reserved_hours_members_are_finished_first_and_free_slots_explore_on(make_search, tmp_path):
    clock = Clock()
    agenda = open_agenda(make_search(budget="{hours: 1, reserve: 0.25}", members=1), tmp_path, slots=2, clock=clock)
    legs = []
    for _ in range(4):
        while (leg := agenda.next()) is not None:
            legs.append(leg)
        advance(agenda, legs, legs[0])
    clock.seconds = 3600 * 0.8
    while legs:
        advance(agenda, legs, legs[0])
    finisher, other = agenda.next(), agenda.next()
    assert finisher.target == 9 and finisher.reported > 0 and finisher.number == next(agenda.rungs.best())
    assert other.target < 9
    clock.seconds = 3600
    assert agenda.report(finisher.number, EpochReport(finisher.reported + 1, 0.5, {}))
    assert agenda.report(other.number, EpochReport(other.reported + 1, 0.5, {}))
    assert agenda.next() is None and agenda.has_nothing_left
    agenda.close()
    assert all(facts.end for facts in agenda.ledger.trials())


def test_all_slots_are_busy_until_the_hours_are_over(make_search, tmp_path):
    clock, chooser, legs = Clock(), random.Random(0), []
    agenda = open_agenda(make_search(budget="{hours: 1, reserve: 0.25}", members=2), tmp_path, slots=3, clock=clock)
    while True:
        while (leg := agenda.next()) is not None:
            legs.append(leg)
        if not legs:
            break
        assert len(legs) == 3 or clock.seconds >= 3600
        clock.seconds += 30
        advance(agenda, legs, chooser.choice(legs))
    assert agenda.has_nothing_left and clock.seconds == 3600 + 2 * 30
    assert sum(facts.end == "complete" for facts in agenda.ledger.trials()) >= 2


def finish(search, out, seed=0):
    """Run a search, or what it has been extended by, to its end; return its trials."""
    agenda = open_agenda(search, out, slots=1)
    agenda.restore()
    play(agenda, random.Random(seed))
    agenda.close()
    return agenda.ledger.trials()


@pytest.mark.parametrize(("kind", "budget"), [("promotion", "{trials: 12}"), ("stopping", "{epochs: 40}")])
def test_a_finished_search_that_is_run_again_stays_as_it_is(make_search, tmp_path, kind, budget):
    search = make_search(budget=budget, kind=kind)
    trials = finish(search, tmp_path)
    assert any(facts.set_aside for facts in trials)
    again = open_agenda(search, tmp_path)
    assert again.has_nothing_left and again.next() is None
    again.close()
    assert again.ledger.trials() == trials


def test_an_extended_search_promotes_what_it_had_set_aside(make_search, tmp_path):
    """Of each rung as many are promoted as in a search that had all of its trials from the beginning, and a member is finished."""
    went_on = []
    for seed in range(4):
        out = tmp_path / str(seed)
        out.mkdir()
        search = make_search(members=1, seed=seed).model_copy(update={"sampler": "random"})
        first = finish(search, out)
        trials = finish(search.model_copy(update={"budget": Budget(trials=30)}), out)
        went_on += [facts for facts in first if facts.set_aside and trials[facts.number].epochs > facts.epochs]
        for level in (1, 3):
            there = [facts for facts in trials if facts.epochs >= level]
            assert sum(facts.epochs > level for facts in there) - len(there) // {1: 3, 3: 9}[level] in (0, 1)
    assert went_on


def test_a_leg_that_the_hours_cut_short_goes_on_when_there_are_more(make_search, tmp_path):
    clock = Clock()
    agenda = open_agenda(make_search(budget="{hours: 1}", kind="none"), tmp_path, slots=1, clock=clock)
    leg = agenda.next()
    clock.seconds = 3600
    assert agenda.report(leg.number, EpochReport(1, 0.5, {})) and agenda.has_nothing_left
    agenda.close()
    (cut,) = agenda.ledger.trials()
    assert (cut.end, cut.ended) == ("pruned", "the budget was spent after 1 of its 9 epochs")
    more = open_agenda(make_search(budget="{hours: 2}", kind="none"), tmp_path, slots=1, clock=clock)
    more.restore()
    (again,) = more.ledger.trials()
    assert (again.end, again.ended) == (None, None)
    goes_on = more.next()
    assert (goes_on.number, goes_on.reported, goes_on.target) == (0, 1, 9)


def test_nothing_is_kept_in_reserve_where_all_trials_are_trained_to_the_end(make_search, tmp_path):
    search = make_search(kind="none", budget="{epochs: 36}")
    agenda = open_agenda(search, tmp_path)
    play(agenda, random.Random(0))
    assert [facts.epochs for facts in agenda.trials.values()] == [9] * 4


def test_a_budget_of_epochs_counts_those_that_a_start_point_will_have(make_pointed, tmp_path):
    from hpa_search.space.search import Search

    search = Search.model_validate({**make_pointed((3, 3, 3)).model_dump(), "budget": {"epochs": 6}})
    agenda = open_agenda(search, tmp_path, slots=3)
    assert play(agenda, random.Random(0)) == 6 and agenda.has_nothing_left
