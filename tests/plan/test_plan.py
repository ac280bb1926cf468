"""What a plan says is what the agenda does, and settings that cannot work are refused."""

import random
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.plan.plan import before_the_run, check, in_short, make_plan, settings_at_fault, slots_here
from hpa_search.plan.probe import Probed, cost_like
from hpa_search.plan.simulate import Cost, simulate
from hpa_search.space.settings import Budget, Resources, SchedulerSettings
from tests.search.played import open_agenda, play

PROBED = (
    Probed(TrialConfig(backbone="resnet18"), Cost(epoch=10.0, start=1.0, weights=40 * 10**6, checkpoint=80 * 10**6)),
    Probed(TrialConfig(backbone="resnet34"), Cost(epoch=20.0, start=2.0, weights=80 * 10**6, checkpoint=160 * 10**6)),
)


@pytest.mark.parametrize("budget", ["{trials: 40}", "{epochs: 150, reserve: 0.25}", "{trials: 12}"])
@pytest.mark.parametrize("kind", ["promotion", "none"])
@pytest.mark.parametrize("slots", [1, 3])
def test_trials_and_epochs_are_those_that_the_search_comes_to(make_search, tmp_path, budget, kind, slots):
    """By other scores: as many are promoted whatever they are. Members come from other rungs, and lack more or fewer epochs."""
    search = make_search(budget=budget, kind=kind).model_copy(update={"sampler": "random"})
    run = simulate(search, slots)
    agenda = open_agenda(search, tmp_path, slots=slots)
    epochs = play(agenda, random.Random(0))
    if "trials" in budget or kind == "none":
        assert run.trials == len(agenda.trials) and abs(run.epochs - epochs) <= (kind == "promotion") * 2 * search.final.members
    else:
        assert abs(run.epochs - epochs) <= search.rungs[-1] and run.epochs <= search.budget.epochs
    assert run.reached[search.rungs[0]] == run.trials


def test_time_and_disk_are_those_of_the_trials(make_search):
    search = make_search(budget="{trials: 4}", kind="none").model_copy(update={"sampler": "random", "keep": "all"})
    run = simulate(search, 2, lambda leg: PROBED[0].cost)
    assert run.epochs == 36 and run.slot_seconds == pytest.approx(4 * (1 + 9 * 10)) and run.seconds == pytest.approx(2 * 91)
    assert 4 * 120 * 10**6 <= run.last_bytes <= run.most_bytes <= 4 * 160 * 10**6


def test_rungs_are_listed(make_search):
    search = make_search(budget="{trials: 30}").model_copy(update={"sampler": "random"})
    run = simulate(search, 1)
    for level, words in (
        (27, "10 reach epoch 3, 3 reach epoch 9 and 1 reach epoch 27"),
        (9, "10 reach epoch 3 and 3 reach epoch 9"),
    ):
        reached = {one: count for one, count in ((1, 30), (3, 10), (9, 3), (27, 1)) if one <= level}
        assert words in in_short(search, replace(run, reached=reached))


def test_hours_end_a_simulated_search(make_search):
    search = make_search(budget="{hours: 1, reserve: 0.25}").model_copy(update={"sampler": "random"})
    run = simulate(search, 2, lambda leg: PROBED[0].cost)
    assert 3600 <= run.seconds <= 3600 + 11
    assert 2 * 3600 - 40 <= run.slot_seconds <= 2 * 3600 + 40


def test_a_trial_costs_what_those_like_it_cost():
    assert cost_like(PROBED, TrialConfig(backbone="resnet34", learning_rate=0.1)) == PROBED[1].cost
    assert cost_like(PROBED, TrialConfig(backbone="densenet121")).epoch == 15.0


def test_the_plan_in_words(make_search):
    search = make_search(budget="{trials: 12}").model_copy(update={"sampler": "random"})
    made = make_plan(search, 2, PROBED)
    lines = made.lines(datetime(2030, 1, 1, 12), free=10**11)
    assert (
        lines[0]
        == in_short(search, made.simulated)
        == "Plan: 12 trials, of which 4 reach epoch 3 and 3 reach epoch 9; 38 epochs."
    )
    assert "on 2 slot(s), until about 12:0" in lines[1] and "100 GB are free" in lines[2]
    assert f"({made.least_bytes / 1e9:.2f} to {made.most_bytes / 1e9:.2f} by which networks turn out best)" in lines[2]
    assert made.least_bytes <= made.simulated.most_bytes <= made.most_bytes
    assert "(" not in make_plan(search, 2, PROBED[:1]).lines(datetime(2030, 1, 1), 10**11)[2].split("(keep")[0]
    assert "Measured on 2 of its trials: 10.0 to 20.0 s an epoch" in lines[3]
    check(made, 10**11, Path("/out"))


def with_settings(make_search, budget, **scheduler):
    search = make_search()
    settings = SchedulerSettings.model_validate({**search.scheduler.model_dump(), **scheduler})
    return search.model_copy(update={"budget": Budget.model_validate(budget), "scheduler": settings, "sampler": "random"})


@pytest.mark.parametrize(
    ("budget", "scheduler", "words"),
    [
        (
            {"trials": 8},
            {},
            "the rung at epoch 9 is reached by no promotion: one of 3 goes on at each rung, and 8 trials are too few; give budget.trials 9 or more, or scheduler.max_epochs 3",
        ),
        ({"trials": 2}, {}, "the rung at epoch 3 is reached by no promotion"),
        ({"epochs": 8}, {}, "budget.epochs 8 is below scheduler.max_epochs 9: no trial is trained to the end"),
        ({"trials": 9}, {}, ""),
        ({"trials": 1}, {"kind": "none"}, ""),
        ({"epochs": 60}, {}, ""),
    ],
)
def test_rungs_that_no_trial_reaches_are_named(make_search, budget, scheduler, words):
    faults = settings_at_fault(with_settings(make_search, budget, **scheduler))
    assert len(faults) == bool(words) and words in "".join(faults)


@pytest.mark.parametrize(
    ("changes", "free", "words"),
    [
        ({}, 10**8, r"/out has 0.1 GB free, and the search may need \d+.\d GB; free some"),
        ({"keep": 0.5}, 10**12, r"keep 0.5 GB is below 2.24 GB, which the trials in training and the members need"),
        ({"budget": Budget(hours=0.01)}, 10**12, r"budget.hours 0.01 is less than the 0.0 h of one trial of 9 epochs"),
    ],
)
def test_a_disk_a_limit_and_hours_that_are_too_small_are_refused(make_search, changes, free, words):
    search = make_search(budget="{trials: 40}").model_copy(update={"sampler": "random", **changes})
    with pytest.raises(UserError, match=words):
        check(make_plan(search, 2, PROBED), free, Path("/out"))


def test_a_run_says_its_plan_first_where_that_takes_no_time(make_search):
    told = before_the_run(make_search(budget="{trials: 8}"))
    assert told[0].startswith("Plan: 8 trials, of which 3 reach epoch 3") and told[1].startswith("Note: the rung at epoch 9")
    assert before_the_run(make_search(budget="{hours: 3}")) == []
    assert before_the_run(make_search(budget="{trials: 90000}")) == []


def test_slots_are_those_of_this_machine(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert slots_here(Resources(cpus=2, gpus="auto")) == 4
    assert slots_here(Resources(cpus=2, gpus=0.25)) == 8
    assert slots_here(Resources(cpus=2, gpus="auto", slots=3)) == 3
    assert slots_here(Resources(cpus=1, gpus=1.0, workers=2)) == 2
    assert slots_here(Resources(cpus=3, gpus=0.0)) == 5
