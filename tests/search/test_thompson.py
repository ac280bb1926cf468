import random

import numpy as np
import pytest

from hpa_search.search import thompson as module
from hpa_search.search.known import Known
from hpa_search.search.thompson import likely_best
from hpa_search.space.parsing import parse_search

SPACE = """
name: thompson
space:
  optimizer: {choice: [adam, adamw, sgd]}
  learning_rate: {log_range: [1.0e-4, 1.0e-1]}
  momentum: {range: [0.0, 0.9], when: {optimizer: sgd}}
  loss: {choice: [bce, focal]}
exclude:
  - {optimizer: [adam], loss: [focal]}
budget: {trials: 100}
scheduler: {min_epochs: 1, max_epochs: 9}
"""


@pytest.fixture
def search():
    return parse_search(SPACE, "thompson.yaml")


def quality(point):
    """Best for sgd at a rate of 0.01 and a momentum of 0.8."""
    away = abs(np.log10(point["learning_rate"]) + 2) / 3
    return 1 - away - (abs(point["momentum"] - 0.8) if point["optimizer"] == "sgd" else 0.6)


def known(search, count):
    points = [search.draw(random.Random(number)) for number in range(count)]
    return [Known(point, {0: quality(point)}) for point in points]


def suggestions(search, trials, count=12):
    return [likely_best(search, trials, np.random.default_rng(number)) for number in range(count)]


def test_suggestions_are_better_than_all_that_is_known(search):
    trials = known(search, 30)
    found = suggestions(search, trials)
    assert np.median([quality(point) for point in found]) > np.quantile([quality(trial.parameters) for trial in trials], 0.9)
    assert max(quality(point) for point in found) > max(quality(trial.parameters) for trial in trials)
    assert not any(search.excluded(point) for point in found)


def test_what_is_uncertain_is_tried_too(search, monkeypatch):
    """With draws from the posterior suggestions side by side lie further apart than the best means."""
    trials = known(search, 12)

    def spread():
        return np.std([np.log10(point["learning_rate"]) for point in suggestions(search, trials, 20)])

    drawn = spread()
    at_the_top = module.GaussianProcess.at_the_top
    monkeypatch.setattr(module.GaussianProcess, "at_the_top", lambda *given: (at_the_top(*given)[0], 0.0))
    assert drawn > 1.5 * spread()


def test_the_generator_alone_makes_them_differ(search):
    trials = known(search, 20)
    assert suggestions(search, trials, 3) == suggestions(search, trials, 3)


def test_trials_in_training_are_left_to_themselves(search):
    """Twenty configurations near one another are in training, where least is known."""
    trials = [trial for trial in known(search, 60) if trial.parameters["optimizer"] != "sgd"]
    busy = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.5, "loss": "bce"}

    def share(trials):
        near = [point["optimizer"] == "sgd" and point["loss"] == "bce" for point in suggestions(search, trials, 40)]
        return np.mean(near)

    assert share([*trials, *[Known(busy, {})] * 20]) < share(trials)


def test_a_space_that_excludes_all_candidates_has_no_suggestion(search):
    trials = known(search, 10)
    nothing = search.model_copy(update={"exclude": ({"loss": ("bce", "focal")},)})
    assert likely_best(nothing, trials, np.random.default_rng(0)) is None


def test_one_terrible_score_hides_no_difference(search):
    trials = known(search, 30)
    terrible = Known(trials[0].parameters, {0: -1e9})
    found = suggestions(search, [terrible, *trials[1:]])
    assert np.median([quality(point) for point in found]) > np.quantile([quality(trial.parameters) for trial in trials], 0.9)


def test_a_best_score_that_half_of_the_trials_share_hides_no_difference(search):
    trials = [Known(trial.parameters, {0: 1.0 if trial.parameters["loss"] == "bce" else 0.2}) for trial in known(search, 60)]
    assert sum(trial.scores[0] == 1.0 for trial in trials) > 30
    assert all(point["loss"] == "bce" for point in suggestions(search, trials))


def test_of_too_many_scores_those_of_the_lowest_rungs_go_where_there_are_higher_ones(monkeypatch):
    rows = [(0, 0, 0.1), (0, 1, 0.2), (0, 2, 0.3), (1, 0, 0.4), (2, 0, 0.5), (2, 1, 0.6)]
    monkeypatch.setattr(module, "MOST_SCORES", 4)
    assert module._most_telling(rows) == [(0, 1, 0.2), (0, 2, 0.3), (1, 0, 0.4), (2, 1, 0.6)]
    monkeypatch.setattr(module, "MOST_SCORES", 6)
    assert module._most_telling(rows) == rows
