import random

import numpy as np
import pytest
from optuna.trial import TrialState

from hpa_search.ledger.ledger import Ledger
from hpa_search.search import sampler_view
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.search.sampler_view import suggest


def objective(rate):
    """Best at 0.003; a factor of ten away is worth nothing."""
    return max(0.0, 1 - abs(np.log10(rate / 0.003)))


def rates_of_a_search(search, out, kind=None):
    """Run a search of one slot by hand and return the learning rates in order."""
    agenda = Agenda(search, Ledger.create(out, "toy"), slots=1, spent_seconds=lambda: 0.0)
    while (leg := agenda.next()) is not None:
        for epoch in range(leg.reported + 1, leg.target + 1):
            value = objective(leg.parameters["learning_rate"]) * (1 + epoch / 100)
            agenda.report(leg.number, EpochReport(epoch, value, {}))
    return [facts.parameters["learning_rate"] for facts in agenda.ledger.trials()]


def test_tpe_learns_though_most_trials_are_paused(make_search, tmp_path):
    early, late = [], []
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        values = [objective(rate) for rate in rates_of_a_search(make_search("{trials: 40}", seed=seed), tmp_path / str(seed))]
        early += values[:10]
        late += values[-10:]
    assert np.mean(late) > np.mean(early) + 0.2


def test_a_suggestion_depends_on_the_ledger_and_the_seed_alone(make_search, tmp_path):
    rates_of_a_search(make_search("{trials: 15}"), tmp_path)
    trials = Ledger.open(tmp_path).frozen()
    random.seed()
    assert suggest(make_search(), trials, set()) == suggest(make_search(), trials, set())
    assert suggest(make_search(seed=1), trials, set()) != suggest(make_search(), trials, set())


def test_paused_trials_are_shown_pruned_failed_ones_not_and_those_in_training_running(make_search, tmp_path):
    agenda = Agenda(make_search(), Ledger.create(tmp_path, "toy"), slots=4, spent_seconds=lambda: 0.0)
    for _ in range(4):
        agenda.next()
    agenda.report(0, EpochReport(1, 0.5, {}))
    agenda.fail(1, "no")
    shown = [sampler_view._shown(trial, trial.number in agenda.live) for trial in agenda.ledger.frozen()]
    assert [trial and trial.state for trial in shown] == [TrialState.PRUNED, None, TrialState.RUNNING, TrialState.RUNNING]
    assert shown[0].intermediate_values == {1: 0.5}


def test_a_large_ledger_is_cut_to_the_best_and_the_latest(make_search, tmp_path, monkeypatch):
    monkeypatch.setattr(sampler_view, "MOST_TRIALS", 10)
    rates_of_a_search(make_search("{trials: 30}"), tmp_path)
    trials = Ledger.open(tmp_path).frozen()
    kept = sampler_view._kept(trials)
    assert len(kept) == 10
    assert [trial.number for trial in kept[-5:]] == [25, 26, 27, 28, 29]
    best = max(trials[:25], key=sampler_view._rank)
    assert best.number in [trial.number for trial in kept[:5]]


@pytest.mark.parametrize("point", [{}, {"learning_rate": 0.05}])
def test_a_start_point_fixes_what_it_names(make_search, point):
    parameters, distributions = suggest(make_search(), [], set(), start_point=point)
    assert set(parameters) == set(distributions) == {"learning_rate"}
    assert not point or parameters == point
