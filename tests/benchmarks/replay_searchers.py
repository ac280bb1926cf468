"""The searchers that `replay.py` compares. Each is asked for work and told of epochs, in virtual time.

The peers are driven through their own interfaces. They draw from the same space, which is a function of an Optuna trial.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from replay_problems import EPOCHS, Problem

from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


@dataclass(frozen=True)
class Work:
    """Train ``number`` from its last epoch, ``reported``, on."""

    number: int
    parameters: Mapping[str, Any]
    reported: int


class Searcher(Protocol):
    """Decides what runs."""

    def next(self) -> Work | None:
        """Return the next work, or None if there is none now."""

    def report(self, number: int, epoch: int, score: float) -> bool:
        """Take an epoch's score; return whether the trial leaves its slot."""


class Ours:
    """The agenda and the ledger of a search."""

    def __init__(self, problem: Problem, slots: int, epochs: int, sampler: str = "gp", members: int | None = None) -> None:
        storage = InMemoryStorage()
        ledger = Ledger(storage, storage.create_new_study([StudyDirection.MAXIMIZE], "replay"), "memory")
        search = problem.search(sampler=sampler, epochs=epochs)
        if members is not None:
            search = search.model_copy(update={"final": search.final.model_copy(update={"members": members})})
        self._agenda = Agenda(search, ledger, slots=slots, spent_seconds=lambda: 0.0)

    def next(self) -> Work | None:
        """Return the agenda's next leg."""
        leg = self._agenda.next()
        return leg and Work(leg.number, leg.parameters, leg.reported)

    def report(self, number: int, epoch: int, score: float) -> bool:
        return self._agenda.report(number, EpochReport(epoch, score, {}))


def tpe(seed: int) -> optuna.samplers.TPESampler:
    """Return TPE for many trials at a time. A model of each parameter alone: with one of all together the peers are worse."""
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


class OptunaStudy:
    """A study with a pruner, which is asked after each epoch."""

    def __init__(self, problem: Problem, pruner: optuna.pruners.BasePruner) -> None:
        self._search = problem.search(sampler="tpe", epochs=1)
        self._study = optuna.create_study(direction="maximize", sampler=tpe(problem.seed), pruner=pruner)
        self._trials: dict[int, optuna.Trial] = {}

    def next(self) -> Work | None:
        trial = self._study.ask()
        self._trials[trial.number] = trial
        return Work(trial.number, self._search.suggest(trial), 0)

    def report(self, number: int, epoch: int, score: float) -> bool:
        trial = self._trials[number]
        trial.report(score, epoch)
        if epoch == EPOCHS:
            self._study.tell(trial, score)
        elif trial.should_prune():
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            return False
        return True


class RayTune:
    """Ray's OptunaSearch, with the same sampler as Optuna's studies here, and ASHAScheduler, as Tune's own loop calls them."""

    def __init__(self, problem: Problem) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        space = problem.search(sampler="tpe", epochs=1)

        def define(trial: optuna.Trial) -> None:
            space.suggest(trial)

        self._searcher = OptunaSearch(space=define, metric="score", mode="max", sampler=tpe(problem.seed))
        self._scheduler = ASHAScheduler(
            time_attr="training_iteration", metric="score", mode="max", max_t=EPOCHS, grace_period=1, reduction_factor=3
        )
        self._trials: dict[int, Any] = {}

    def next(self) -> Work | None:
        from ray.tune.experiment import Trial

        number = len(self._trials)
        parameters = self._searcher.suggest(str(number))
        trial = Trial("replay", stub=True, trial_id=str(number), config=parameters)
        self._trials[number] = trial
        self._scheduler.on_trial_add(None, trial)
        return Work(number, parameters, 0)

    def report(self, number: int, epoch: int, score: float) -> bool:
        trial, result = self._trials[number], {"training_iteration": epoch, "score": score}
        stops = epoch >= EPOCHS or self._scheduler.on_trial_result(None, trial, result) == self._scheduler.STOP
        if stops:
            self._scheduler.on_trial_complete(None, trial, result)
            self._searcher.on_trial_complete(str(number), result)
        else:
            self._searcher.on_trial_result(str(number), result)
        return stops


def syne_tune(scheduler: str) -> Callable[[Problem, int, int], Searcher]:
    """Return what makes a scheduler of Syne Tune, which `make bench-search` installs: no other part needs it."""

    def make(problem: Problem, slots: int, epochs: int) -> Searcher:
        from replay_syne_tune import SyneTune

        return SyneTune(problem, scheduler)

    return make


OURS, ONE_MEMBER, OUR_TPE = "hpa_search", "hpa_search, 1 member", "hpa_search, TPE"
RANDOM = "random, same rungs"
SEARCHERS: dict[str, Callable[[Problem, int, int], Searcher]] = {
    OURS: Ours,
    ONE_MEMBER: lambda problem, slots, epochs: Ours(problem, slots, epochs, members=1),
    OUR_TPE: lambda problem, slots, epochs: Ours(problem, slots, epochs, "tpe"),
    RANDOM: lambda problem, slots, epochs: Ours(problem, slots, epochs, "random"),
    "Ray OptunaSearch + ASHA": lambda problem, slots, epochs: RayTune(problem),
    "Optuna TPE + halving": lambda problem, slots, epochs: OptunaStudy(
        problem, optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "Optuna TPE + Hyperband": lambda problem, slots, epochs: OptunaStudy(
        problem, optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3)
    ),
    "Syne Tune ASHA": syne_tune("ASHA"),
    "Syne Tune BOHB": syne_tune("BOHB"),
    "Syne Tune ASHA + CQR": syne_tune("ASHACQR"),
}
