"""Suggest a trial's parameters, by the search's `sampler`.

`gp` draws from a Gaussian process of the scores at all rungs (`thompson.py`), once FEWEST trials have one; before that at random.

`tpe` is Optuna's TPE (Bergstra et al. 2011). It counts a trial in training as bad (`constant_liar`), so that trials side by side
differ. Most trials of a search are paused at a rung, though, and the promoted ones are in training and the best there are. So TPE is
shown each trial that has reached a rung as finished, with its expected score at the top rung (`Rungs.expectations`). Every other
suggestion is made by one model of all parameters together (Falkner et al. 2018, BOHB), the rest by a model of each parameter
alone. The first learns which values belong together; the second needs fewer trials to come close to the best.
"""

import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from hpa_search.search.known import Known
from hpa_search.search.thompson import likely_best
from hpa_search.space.dimension import Dimension
from hpa_search.space.search import Point, Search

MOST_ATTEMPTS = 10
FEWEST = 8
"""The Gaussian process needs the scores of so many trials."""
_SOME_DAY = datetime(2000, 1, 1)


def suggest(
    search: Search, number: int, known: Sequence[Known], *, start_point: Point | None = None
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return the parameters of trial ``number``, and their distributions.

    The answer depends on the arguments alone. A ``start_point`` fixes the values that it names. Excluded suggestions are
    repeated, and after MOST_ATTEMPTS replaced by a random draw.
    """
    word = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    distributions = {name: _distribution(dimension) for name, dimension in search.space.items()}
    if search.sampler == "gp" and start_point is None and search.space and sum(bool(trial.scores) for trial in known) >= FEWEST:
        with _threads().limit(limits=1, user_api="blas"):
            start_point = likely_best(search, known, np.random.default_rng([search.seed, number]))
    shown = [_shown(trial, distributions) for trial in known] if search.sampler == "tpe" else []
    study = _study(shown, _sampler(search, number, word))
    for attempt in range(MOST_ATTEMPTS + 1):
        if attempt == MOST_ATTEMPTS:
            start_point = search.draw(random.Random(word), start_point)
        if start_point is not None:
            study.enqueue_trial(dict(start_point))
        trial = study.ask()
        parameters = search.suggest(trial)
        if not search.excluded(parameters):
            return parameters, trial.distributions
        study.tell(trial, state=TrialState.FAIL)  # TPE ignores failed trials
    raise AssertionError("a draw is never excluded")


@cache
def _threads() -> ThreadpoolController:
    """Return what bounds the threads of linear algebra. Many small steps on threads that wait for busy cores take seconds."""
    return ThreadpoolController()


def _sampler(search: Search, number: int, word: int) -> optuna.samplers.BaseSampler:
    if search.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=word)
    together = number % 2 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=word, multivariate=together, group=together, constant_liar=True)


def _study(trials: Iterable[FrozenTrial], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """Return a study in memory. `Study.add_trials` would check each value of each trial anew."""
    storage = InMemoryStorage()
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "shown")
    for trial in trials:
        storage.create_new_trial(study_id, template_trial=trial)
    return optuna.load_study(study_name="shown", storage=storage, sampler=sampler)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choice is not None:
        return CategoricalDistribution(dimension.choice)
    if dimension.integer is not None:
        return IntDistribution(*dimension.integer)
    return FloatDistribution(*dimension.bounds, log=dimension.log_range is not None)


class _Still(FrozenTrial):
    """A trial that belongs to one study alone, so the study need not copy it. Copies took a quarter of a suggestion's time."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Still":
        return self


def _shown(trial: Known, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    return _Still(
        number=-1,
        trial_id=-1,
        state=TrialState.RUNNING if trial.expected is None else TrialState.COMPLETE,
        value=trial.expected,
        datetime_start=_SOME_DAY,
        datetime_complete=None if trial.expected is None else _SOME_DAY,
        params=dict(trial.parameters),
        distributions={name: distributions[name] for name in trial.parameters},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
