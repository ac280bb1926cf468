"""How much each parameter decides whether a trial is among the best (PED-ANOVA, Watanabe et al. 2023; Optuna's)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

LEAST = 8
"""The number of trials below which nothing is said."""
BEST = 0.2
"""The share of the trials that counts as the best."""


@dataclass(frozen=True)
class Importance:
    """A parameter's share of what decides whether a trial is among the best. ``trials`` have the parameter. All shares add up to 1."""

    name: str
    share: float
    trials: int


def importances(trials: Sequence[FrozenTrial], scores: Mapping[int, float | None]) -> tuple[Importance, ...]:
    """Return the importance of each parameter that took at least two values, the largest share first.

    ``scores`` are the trials' by number; those without a finite one do not count.
    """
    scored = [(trial, score) for trial in trials if (score := scores.get(trial.number)) is not None and np.isfinite(score)]
    names = dict.fromkeys(name for trial, _ in scored for name in trial.params)
    having = {name: [trial for trial, _ in scored if name in trial.params] for name in names}
    varied = [name for name, those in having.items() if len({repr(trial.params[name]) for trial in those}) > 1]
    if len(scored) < LEAST or not varied or len({score for _, score in scored}) < 2:
        return ()
    storage = optuna.storages.InMemoryStorage()
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "scored")
    for trial, score in scored:
        own = [name for name in varied if name in trial.params]
        params, distributions = {name: trial.params[name] for name in own}, {name: trial.distributions[name] for name in own}
        ended = create_trial(state=TrialState.COMPLETE, value=score, params=params, distributions=distributions)
        storage.create_new_trial(study_id, template_trial=ended)
    study = optuna.load_study(study_name="scored", storage=storage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST), params=varied)
    return tuple(Importance(name, float(share), len(having[name])) for name, share in shares.items())
