"""Syne Tune's schedulers for `replay.py`."""

from datetime import datetime
from typing import Any

from replay_problems import EPOCHS, Problem
from replay_searchers import Work
from syne_tune import config_space
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer import baselines
from syne_tune.optimizer.scheduler import SchedulerDecision

from hpa_search.space.dimension import Dimension


class SyneTune:
    """A scheduler of Syne Tune, as its tuner calls it. It knows no conditions: a setting without meaning is drawn too."""

    def __init__(self, problem: Problem, scheduler: str) -> None:
        self._space = problem.search(sampler="random", epochs=1).space
        space = {name: _domain(dimension) for name, dimension in self._space.items()}
        self._scheduler = getattr(baselines, scheduler)(
            space,
            metric="score",
            do_minimize=False,
            time_attr="epoch",
            max_t=EPOCHS,
            random_seed=problem.seed,
            grace_period=1,
            reduction_factor=3,
        )
        self._trials: list[Trial] = []

    def next(self) -> Work | None:
        """Return a new trial."""
        drawn = self._scheduler.suggest().config
        self._trials.append(Trial(len(self._trials), drawn, datetime.now()))
        self._scheduler.on_trial_add(self._trials[-1])
        active: dict[str, Any] = {}
        for name, dimension in self._space.items():
            if dimension.active(active):
                active[name] = drawn[name]
        return Work(self._trials[-1].trial_id, active, 0)

    def report(self, number: int, epoch: int, score: float) -> bool:
        """Take an epoch's score; return whether the trial leaves its slot."""
        trial, result = self._trials[number], {"score": score, "epoch": epoch}
        stops = self._scheduler.on_trial_result(trial, result) == SchedulerDecision.STOP
        if stops:
            self._scheduler.on_trial_remove(trial)
        return stops


def _domain(dimension: Dimension) -> Any:
    if dimension.choice is not None:
        return config_space.choice(list(dimension.choice))
    if dimension.integer is not None:
        return config_space.randint(*dimension.integer)
    return (config_space.loguniform if dimension.log_range is not None else config_space.uniform)(*dimension.bounds)
