"""The study that TPE sees: in memory, made from the ledger, with paused trials as pruned trials.

Optuna has no paused state. If paused trials stayed RUNNING, `constant_liar` would count them as bad, and TPE would hardly learn.
"""

import random
import warnings
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpa_search.space.search import Point, Search

MOST_TRIALS = 200
MOST_ATTEMPTS = 50


def suggest(
    search: Search, trials: Sequence[FrozenTrial], training: Set[int], *, start_point: Point | None = None
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return the parameters of trial number ``len(trials)``, and their distributions.

    The answer depends on the arguments alone. ``training`` holds the numbers of the trials in training now. A ``start_point``
    fixes the values that it names. Excluded suggestions are repeated, and after MOST_ATTEMPTS replaced by a random draw.
    """
    word = int(np.random.SeedSequence([search.seed, len(trials)]).generate_state(1)[0])
    visible = [shown for trial in _kept(trials) if (shown := _shown(trial, trial.number in training))]
    study = _study(visible, _sampler(search, word))
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


def _sampler(search: Search, word: int) -> optuna.samplers.BaseSampler:
    if search.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=word)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=word, multivariate=True, group=True, constant_liar=True)


def _study(trials: Sequence[FrozenTrial], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """Return a study in memory. `Study.add_trials` would check each value of each trial anew."""
    storage = InMemoryStorage()
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "shown")
    for trial in trials:
        storage.create_new_trial(study_id, template_trial=trial)
    return optuna.load_study(study_name="shown", storage=storage, sampler=sampler)


def _kept(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials for TPE, at most MOST_TRIALS: half of them the best, half the latest. TPE's time grows with them."""
    if len(trials) <= MOST_TRIALS:
        return list(trials)
    latest = trials[-MOST_TRIALS // 2 :]
    best = sorted(trials[: -MOST_TRIALS // 2], key=_rank, reverse=True)[: MOST_TRIALS // 2]
    return [*sorted(best, key=lambda trial: trial.number), *latest]


def _rank(trial: FrozenTrial) -> tuple[int, float]:
    last = max(trial.intermediate_values, default=0)
    return last, trial.intermediate_values.get(last, -np.inf)


def _shown(trial: FrozenTrial, in_training: bool) -> FrozenTrial | None:
    """Return a trial as TPE sees it. A failed trial is None, and so is a trial without reports that is not in training."""
    if trial.state == TrialState.COMPLETE:
        return _as(trial, TrialState.COMPLETE, trial.value)
    if in_training:
        return _as(trial, TrialState.RUNNING)
    if trial.state == TrialState.FAIL or not trial.intermediate_values:
        return None
    return _as(trial, TrialState.PRUNED)


class _Still(FrozenTrial):
    """A trial that belongs to one study alone, so the study need not copy it. Copies took a quarter of a suggestion's time."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Still":
        return self


def _as(trial: FrozenTrial, state: TrialState, value: float | None = None) -> FrozenTrial:
    return _Still(
        number=-1,
        trial_id=-1,
        state=state,
        value=value,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete or trial.datetime_start if state.is_finished() else None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values=trial.intermediate_values,
    )
