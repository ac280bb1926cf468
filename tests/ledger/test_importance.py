"""What decides whether a trial is among the best: found among many, also where it exists beside some values of another alone."""

import random
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from hpa_search.ledger.importance import importances
from hpa_search.search.reading import read_search
from hpa_search.search.suggestions import _distribution

FULL = Path(__file__).parents[2] / "search_spaces/full.yaml"


@pytest.mark.parametrize("name", ["learning_rate", "gamma"])
def test_it_is_found_among_all_parameters_of_the_whole_space_in_seconds(name):
    search, rng = read_search(FULL)[0], random.Random(0)
    distributions = {key: _distribution(dimension) for key, dimension in search.space.items()}
    trials, scores = [], {}
    for number in range(1000):
        params = search.draw(rng)
        trial = create_trial(
            state=TrialState.PRUNED, params=params, distributions={key: distributions[key] for key in params}, value=0.0
        )
        trial.number = number
        trials.append(trial)
        scores[number] = params.get(name, 0.0) * (100 if name == "learning_rate" else 1) + 0.1 * rng.random()
    began = time.monotonic()
    found = importances(trials, scores)
    assert time.monotonic() - began < 20
    assert found[0].name == name and sum(one.share for one in found) == pytest.approx(1)
    assert found[0].trials == sum(name in trial.params for trial in trials)


def test_few_trials_or_trials_without_a_score_say_nothing():
    assert importances([], {}) == ()
