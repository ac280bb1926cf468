import numpy as np
import pytest
from scipy.optimize import approx_fprime

from hpa_search.search import gaussian_process as module
from hpa_search.search.gaussian_process import GaussianProcess, Scores


def process(features, rungs, values, *, of=3, is_choice=None):
    features = np.asarray(features, float)
    dimensions = features.shape[1]
    return GaussianProcess(
        Scores(features, np.asarray(rungs), np.asarray(values, float)),
        rungs=of,
        owners=np.arange(dimensions),
        is_choice=np.zeros(dimensions, bool) if is_choice is None else is_choice,
        rng=np.random.default_rng(0),
    )


def hill(features):
    return 1 - np.square(features - 0.3).sum(axis=1)


def test_scores_between_those_that_are_known_are_expected_right():
    rng = np.random.default_rng(0)
    features = rng.random((60, 2))
    values = hill(features) + 0.01 * rng.normal(size=60)
    new = rng.random((40, 2))
    mean, deviation = process(features, np.full(60, 2), values).at_the_top(new)
    away = mean - hill(new)
    assert np.abs(away).mean() < 0.01 < hill(new).std()
    assert np.mean(np.abs(away) < 2 * deviation) > 0.85


def test_what_is_far_from_all_that_is_known_is_uncertain():
    near, far = np.array([[0.1]]), np.array([[0.9]])
    model = process(np.linspace(0, 0.3, 12)[:, None], np.full(12, 2), np.sin(8 * np.linspace(0, 0.3, 12)))
    assert model.at_the_top(far)[1] > 3 * model.at_the_top(near)[1]


def test_means_are_in_the_units_of_the_scores():
    values = 1000 + 50 * hill(np.linspace(0, 1, 20)[:, None])
    mean, deviation = process(np.linspace(0, 1, 20)[:, None], np.full(20, 2), values).at_the_top(np.array([[0.3]]))
    assert mean == pytest.approx(1050, abs=2) and 0 < deviation < 10


def slow_starters(promoted):
    """At the first rung the configurations at 1 look better; of those that are promoted the ones at 0 end higher."""
    places = np.repeat([0.0, 1.0], 10)
    features = [[place] for place in places]
    rungs, values = [0] * 20, [*np.full(10, 0.3), *np.full(10, 0.5)]
    for place, end in promoted:
        features, rungs, values = [*features, [place]], [*rungs, 2], [*values, end]
    mean, _ = process(features, rungs, np.array(values) + 0.01 * np.sin(np.arange(len(values)))).at_the_top(
        np.array([[0.0], [1.0]])
    )
    return mean


def test_what_starts_slowly_is_learnt_from_the_higher_rungs():
    slow, quick = slow_starters([])
    assert slow < quick
    slow, quick = slow_starters([(0.0, 0.8)] * 3 + [(1.0, 0.6)] * 3)
    assert slow > quick


def test_a_rung_with_much_noise_is_trusted_less():
    rng = np.random.default_rng(1)
    features = np.concatenate([rng.random((80, 1)), np.linspace(0, 1, 8)[:, None]])
    rungs = np.array([0] * 80 + [2] * 8)
    values = hill(features) + np.where(rungs == 0, 0.5 * rng.normal(size=88), 0)
    model = process(features, rungs, values)
    assert model._found.noise[0] > 5 * model._found.noise[2]


def test_a_dimension_that_does_not_matter_gets_a_small_weight():
    rng = np.random.default_rng(2)
    features = rng.random((60, 2))
    model = process(features, np.full(60, 2), np.sin(6 * features[:, 0]))
    assert model._found.weights[0] > 10 * model._found.weights[1]


def test_expecting_a_score_narrows_what_is_unknown_and_moves_no_mean():
    features = np.linspace(0, 1, 10)[:, None]
    model = process(features, np.zeros(10, int), hill(features))
    at = np.array([[0.55], [3.0]])
    before = model.at_the_top(at)
    model.expect(np.array([[3.0], [3.0], [3.0]]))
    mean, deviation = model.at_the_top(at)
    assert mean == pytest.approx(before[0])
    assert deviation[0] == pytest.approx(before[1][0], rel=0.02) and deviation[1] < 0.9 * before[1][1]


@pytest.mark.parametrize("values", [[0.5] * 8, [0.0] * 7 + [1e308], [1e-300 * i for i in range(8)]])
def test_equal_and_extreme_scores_are_no_fault(values):
    mean, deviation = process(np.linspace(0, 1, 8)[:, None], np.zeros(8, int), values).at_the_top(np.array([[0.5]]))
    assert np.isfinite(mean) and np.isfinite(deviation)


def test_the_same_configuration_many_times_is_no_fault():
    model = process(np.zeros((150, 2)), np.zeros(150, int), np.zeros(150))
    model.expect(np.zeros((60, 2)))
    assert np.isfinite(model.at_the_top(np.zeros((1, 2)))).all()


def test_hyperparameters_are_fitted_to_the_highest_and_to_some_others():
    count = module.MOST_FITTED + 80
    rungs = np.array([2] * 30 + [0] * (count - 30))
    chosen = module._fitted(Scores(np.zeros((count, 1)), rungs, np.arange(count) / count), np.random.default_rng(0))
    assert len(set(chosen)) == len(chosen) == module.MOST_FITTED
    assert set(range(30)) <= set(chosen) and {count - 1, count - 2} <= set(chosen)


def test_the_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(0)
    features = rng.random((30, 5))
    scores = Scores(features, rng.integers(0, 3, 30), rng.normal(size=30))
    fit = module._Fit(scores, 3, np.array([0, 0, 1, 2, 2]), np.array([True, False, False]))
    at = fit._prior + 0.5 * rng.normal(size=len(fit._prior))
    assert fit._loss(at)[1] == pytest.approx(approx_fprime(at, lambda x: fit._loss(x)[0], 1e-7), rel=1e-3, abs=1e-4)
