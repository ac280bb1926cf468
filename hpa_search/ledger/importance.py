"""How much of the differences between trials each parameter explains (fANOVA, Hutter et al. 2014; Optuna's)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

LEAST = 8
"""The number of trials below which nothing is said."""


@dataclass(frozen=True)
class Importance:
    """A parameter's share of the variance of the score over ``trials`` trials, those that have it.

    The shares of the parameters that all trials have add up to 1. That of another one, which only some values of a parameter
    bring with them, is its share among the trials that have it, and stands apart.
    """

    name: str
    share: float
    trials: int
    conditional: bool


def importances(trials: Sequence[FrozenTrial], scores: Mapping[int, float | None], *, seed: int) -> tuple[Importance, ...]:
    """Return the importance of each parameter that took at least two values, the largest share first.

    ``scores`` are the trials' by number; those without a finite one do not count.
    """
    scored = [(trial, score) for trial in trials if (score := scores.get(trial.number)) is not None and np.isfinite(score)]
    names = list(dict.fromkeys(name for trial, _ in scored for name in trial.params))
    common = [name for name in names if all(name in trial.params for trial, _ in scored)]
    found = [Importance(name, share, len(scored), False) for name, share in _shares(scored, common, seed).items()]
    for name in names:
        if name not in common:
            having = [pair for pair in scored if name in pair[0].params]
            shares = _shares(having, [*common, name], seed)
            if name in shares:
                found.append(Importance(name, shares[name], len(having), True))
    return tuple(sorted(found, key=lambda one: (one.conditional, -one.share)))


def _shares(scored: Sequence[tuple[FrozenTrial, float]], names: Sequence[str], seed: int) -> dict[str, float]:
    varied = [name for name in names if len({repr(trial.params[name]) for trial, _ in scored}) > 1]
    if len(scored) < LEAST or not varied or len({score for _, score in scored}) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    for trial, score in scored:
        params = {name: trial.params[name] for name in varied}
        distributions = {name: trial.distributions[name] for name in varied}
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=score, params=params, distributions=distributions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed), params=varied))
