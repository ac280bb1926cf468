"""What TPE is shown: a study in memory made from the ledger, in which a paused trial counts as pruned.

Optuna has no paused state. Left RUNNING, paused trials count as bad (`constant_liar`), and TPE hardly learns.
"""

import copy
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from hpa_search.space.search import Point, Search

MOST_TRIALS = 1000
MOST_ATTEMPTS = 50


def suggest(
    search: Search, trials: Sequence[FrozenTrial], training: set[int], *, start_point: Point | None = None
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return parameters, and their distributions, for the trial whose number is ``len(trials)``.

    The answer depends on nothing but the arguments. ``training`` holds the numbers of the trials in training now.
    A ``start_point`` fixes the values that it names. What the space excludes is suggested again, and after
    MOST_ATTEMPTS drawn at random.
    """
    word = int(np.random.SeedSequence([search.seed, len(trials)]).generate_state(1)[0])
    study = optuna.create_study(direction="maximize", sampler=_sampler(search, word))
    study.add_trials([shown for trial in _kept(trials) if (shown := _shown(trial, trial.number in training))])
    for attempt in range(MOST_ATTEMPTS + 1):
        if attempt == MOST_ATTEMPTS:
            start_point = search.draw(random.Random(word), start_point)
        if start_point is not None:
            study.enqueue_trial(dict(start_point))
        trial = study.ask()
        parameters = search.suggest(trial)
        if not search.excluded(parameters):
            return parameters, trial.distributions
        study.tell(trial, state=TrialState.FAIL)  # a failed trial is one that TPE does not look at
    raise AssertionError("a draw is never an excluded one")


def _sampler(search: Search, word: int) -> optuna.samplers.BaseSampler:
    if search.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=word)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=word, multivariate=True, group=True, constant_liar=True)


def _kept(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best half and the latest half of what TPE is shown: its time grows with the number of trials."""
    if len(trials) <= MOST_TRIALS:
        return list(trials)
    latest = trials[-MOST_TRIALS // 2 :]
    best = sorted(trials[: -MOST_TRIALS // 2], key=_rank, reverse=True)[: MOST_TRIALS // 2]
    return [*sorted(best, key=lambda trial: trial.number), *latest]


def _rank(trial: FrozenTrial) -> tuple[int, float]:
    last = max(trial.intermediate_values, default=0)
    return last, trial.intermediate_values.get(last, -np.inf)


def _shown(trial: FrozenTrial, in_training: bool) -> FrozenTrial | None:
    """Return how TPE sees a trial; None for a failed one, and for one that has nothing to say yet."""
    if trial.state == TrialState.COMPLETE:
        return _as(trial, TrialState.COMPLETE, trial.value)
    if in_training:
        return _as(trial, TrialState.RUNNING)
    if trial.state == TrialState.FAIL or not trial.intermediate_values:
        return None
    return _as(trial, TrialState.PRUNED)


class _Still(FrozenTrial):
    """A trial whose content nobody changes any more: with a thousand of them, deep copies were most of a suggestion's time."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Still":
        return copy.copy(self)


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
