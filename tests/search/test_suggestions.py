import random

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.known import Known
from hpa_search.search.leg import EpochReport
from hpa_search.search.suggestions import FEWEST, suggest
from hpa_search.space.parsing import parse_search

KINDS = """
name: kinds
space:
  optimizer: {choice: [adam, adamw, sgd]}
  batch_size: {integer: [8, 32]}
  dropout: {range: [0.0, 0.5]}
  clip_norm: {choice: [null, 1.0]}
  momentum: {range: [0.0, 0.9], when: {optimizer: sgd}}
budget: {trials: 40}
"""


@pytest.fixture(params=["gp", "tpe"])
def sampled(request, make_search):
    """A function that makes a search with each sampler that learns."""
    return lambda *given, **named: make_search(*given, **named).model_copy(update={"sampler": request.param})


def scored(parameters, score):
    return Known(parameters, {0: score})


def objective(rate):
    """Best at 0.003; a factor of ten away is worth nothing."""
    return max(0.0, 1 - abs(np.log10(rate / 0.003)))


def rates_of_a_search(search, out):
    """Run a search of one slot by hand and return the learning rates in order."""
    agenda = Agenda(search, Ledger.create(out, "toy"), slots=1, spent_seconds=lambda: 0.0)
    while (leg := agenda.next()) is not None:
        for epoch in range(leg.reported + 1, leg.target + 1):
            value = objective(leg.parameters["learning_rate"]) * (1 + epoch / 100)
            agenda.report(leg.number, EpochReport(epoch, value, {}))
    return [facts.parameters["learning_rate"] for facts in agenda.ledger.trials()]


def test_a_search_learns_though_most_trials_are_paused(sampled, tmp_path):
    early, late = [], []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        values = [objective(rate) for rate in rates_of_a_search(sampled("{trials: 40}", seed=seed), tmp_path / str(seed))]
        early += values[:10]
        late += values[-10:]
    assert np.median(late) > np.median(early) + 0.2


def known(rates):
    return [scored({"learning_rate": rate}, objective(rate)) for rate in rates]


RATES = [10 ** (-4 + 3 * step / 19) for step in range(20)]


def test_a_suggestion_depends_on_what_is_known_and_on_the_seed_alone(sampled):
    random.seed()
    trials = known(RATES)
    assert suggest(sampled(), 20, trials) == suggest(sampled(), 20, trials)
    assert suggest(sampled(seed=1), 20, trials) != suggest(sampled(), 20, trials)
    assert suggest(sampled(), 21, trials) != suggest(sampled(), 20, trials)


def test_suggestions_are_near_the_best_of_what_is_known(sampled):
    rates = [suggest(sampled(), number, known(RATES))[0]["learning_rate"] for number in range(20, 40)]
    assert np.mean([objective(rate) for rate in rates]) > np.mean([objective(rate) for rate in RATES]) + 0.2


def test_a_trial_in_training_keeps_the_next_suggestions_of_tpe_away(make_search):
    search = make_search().model_copy(update={"sampler": "tpe"})

    def near(trials):
        rates = [suggest(search, number, trials)[0]["learning_rate"] for number in range(20, 60)]
        return sum(0.002 < rate < 0.0045 for rate in rates)

    busy = [Known({"learning_rate": 0.003}, {})] * 8
    assert near([*known(RATES), *busy]) < near(known(RATES)) / 2


def test_until_some_trials_have_a_score_suggestions_are_random(make_search):
    at_random = make_search().model_copy(update={"sampler": "random"})
    few, enough = known(RATES[: FEWEST - 1]), known(RATES[:FEWEST])
    busy = [Known({"learning_rate": 0.003}, {})] * 20
    assert suggest(make_search(), 7, [*few, *busy]) == suggest(at_random, 7, ())
    assert suggest(make_search(), 7, enough) != suggest(at_random, 7, ())


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_values_of_every_kind_are_known(sampler):
    search = parse_search(KINDS, "kinds.yaml").model_copy(update={"sampler": sampler})
    trials = [scored(search.draw(random.Random(number)), number / 30) for number in range(30)]
    parameters, distributions = suggest(search, 30, trials)
    assert parameters.keys() == distributions.keys() and not search.excluded(parameters)
    assert all(distributions[name]._contains(distributions[name].to_internal_repr(value)) for name, value in parameters.items())


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_a_space_that_excludes_nearly_all_is_drawn_from_in_the_end(sampler):
    search = parse_search(KINDS + "exclude:\n  - {optimizer: [adam, sgd]}\n", "kinds.yaml")
    search = search.model_copy(update={"sampler": sampler})
    trials = [scored({"optimizer": "adam", "batch_size": 8, "dropout": 0.1, "clip_norm": None}, 0.9)] * 30
    assert {suggest(search, number, trials)[0]["optimizer"] for number in range(30, 40)} == {"adamw"}


@pytest.mark.parametrize("point", [{}, {"learning_rate": 0.05}])
def test_a_start_point_fixes_what_it_names(make_search, point):
    parameters, distributions = suggest(make_search(), 0, [], start_point=point)
    assert set(parameters) == set(distributions) == {"learning_rate"}
    assert not point or parameters == point


def test_a_start_point_counts_though_much_is_known(make_search):
    parameters, _ = suggest(make_search(), 20, known(RATES), start_point={"learning_rate": 0.05})
    assert parameters == {"learning_rate": 0.05}


def test_a_space_without_a_dimension_has_one_suggestion(make_search):
    search = make_search().model_copy(update={"space": {}})
    assert suggest(search, 20, [scored({}, 0.5)] * 10) == ({}, {})


def test_a_suggestion_computes_on_one_thread(make_search, monkeypatch):
    """Beside workers that train, threads that wait for one another take seconds."""
    threads = []

    def look(*_):
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    monkeypatch.setattr("hpa_search.search.suggestions.likely_best", look)
    with threadpool_limits(2, "blas"):
        suggest(make_search(), 20, known(RATES))
        assert set(threads) == {1}
        assert 2 in {pool["num_threads"] for pool in threadpool_info()}


PAIR = """
name: pair
sampler: tpe
space:
  dropout: {range: [0.0, 0.9]}
  ema: {range: [0.0, 0.9]}
budget: {trials: 40}
"""


def test_every_other_suggestion_knows_which_values_belong_together():
    """A score that is high where two parameters are equal, whatever they are."""
    search, rng = parse_search(PAIR, "pair"), np.random.default_rng(0)
    points = rng.uniform(0, 0.9, size=(200, 2))
    known = [scored({"dropout": x, "ema": y}, 1 - abs(x - y)) for x, y in points.tolist()]
    apart = []
    for number in range(200, 260):
        parameters, _ = suggest(search, number, known)
        apart.append(abs(parameters["dropout"] - parameters["ema"]))
    assert 3 * np.mean(apart[::2]) < np.mean(apart[1::2])


def test_the_other_suggestions_come_close_to_the_best_with_few_trials():
    search, rng = parse_search(PAIR, "pair"), np.random.default_rng(0)
    points = rng.uniform(0, 0.9, size=(30, 2))
    known = [scored({"dropout": x, "ema": y}, -((x - 0.7) ** 2) - (y - 0.2) ** 2) for x, y in points.tolist()]
    away = []
    for number in range(30, 90):
        parameters, _ = suggest(search, number, known)
        away.append(np.hypot(parameters["dropout"] - 0.7, parameters["ema"] - 0.2))
    assert np.median(away[1::2]) < 0.7 * np.median(away[::2])
