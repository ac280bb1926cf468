"""The settings of a search beside its space: split, objective, budget, scheduler, resources, final stage."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hpa_search.config import Record, TestTime, bounded
from hpa_search.explain import given
from hpa_search.rounding import SHARES, alike, sum_fault
from hpa_search.scoring.ensemble import BAGS, SELECTIONS
from hpa_search.scoring.rules import DEFAULT, RULES
from hpa_search.space.limits import MOST_EPOCHS, MOST_HOURS, MOST_TRIALS
from hpa_search.training.score import ObjectiveMetric as Metric


class About(Record):
    """The published system that a search reruns, its reported result and protocol, and the settings that were filled in."""

    system: str
    source: str
    reported: str
    protocol: str
    filled_in: tuple[str, ...] = ()


class SplitSettings(Record):
    """Which rows train, validate and test.

    ``train``, ``validation`` and ``test`` are their shares. With ``folds``, the rows outside test are divided into folds
    instead, and ``fold`` validates. The split is `stratified` by label, or `random`. The groups of groups.csv stay together
    unless ``grouped`` is false.
    """

    train: float = Field(default=0.7, gt=0, lt=1)
    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = bounded(default=0.15, ge=0, lt=1)
    folds: int | None = Field(default=None, ge=2, le=100)
    fold: int = Field(default=0, ge=0, lt=100)
    method: Literal["stratified", "random"] = "stratified"
    grouped: bool = True
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _whole(self) -> "SplitSettings":
        if self.fold >= (self.folds or 1):
            there = f"the folds are numbered from 0 to {self.folds - 1}" if self.folds else "give split.folds beside it"
            raise ValueError(f"fold {self.fold} does not exist; {there}")
        if self.folds is not None:
            if given_too := sorted({"train", "validation"} & self.model_fields_set):
                raise ValueError(f"folds divide the rows outside test; leave out {' and '.join(given_too)}")
        elif total := sum_fault((self.train, self.validation, self.test), SHARES):
            raise ValueError(f"train + validation + test must be 1 (they are {total})")
        return self


class Objective(Record):
    """The score to maximise on the validation rows, over the classes with enough positives in training and validation.

    It is macro AP, macro F1 at thresholds fitted on other folds, or macro F1 at 0.5. The last of these ranks trials worst,
    because it measures their calibration too.
    """

    metric: Metric = "macro_ap"
    min_positives: int = Field(default=1, ge=1, le=1_000_000)


class Budget(Record):
    """The limits of a search: trials, hours, and epochs over all trials. The first limit to be reached ends it.

    Up to the share ``reserve`` of hours or epochs is kept to train the best trials to the top rung, as far as they lack epochs.
    Scheduler `none` trains all trials to the end and keeps nothing. A grid needs no budget: it ends with its last point.
    """

    trials: int | None = Field(default=None, ge=1, le=MOST_TRIALS)
    hours: float | None = bounded(default=None, gt=0, le=MOST_HOURS)
    epochs: int | None = Field(default=None, ge=1, le=MOST_EPOCHS)
    reserve: float = bounded(default=0.25, ge=0, lt=1)

    @property
    def endless(self) -> bool:
        """Whether the budget has no limit."""
        return self.trials is None and self.hours is None and self.epochs is None


class SchedulerSettings(Record):
    """How long trials train: ASHA by `promotion` (Li et al. 2020), its `stopping` variant, or `none` (all to the end).

    A trial ends when its objective has not exceeded its best for ``patience`` epochs. With `none`, ``point_epochs`` gives the
    epochs of each start point. Learning-rate schedules span ``max_epochs`` even then.
    """

    kind: Literal["promotion", "stopping", "none"] = "promotion"
    min_epochs: int = Field(default=1, ge=1, le=100_000)
    max_epochs: int = Field(default=27, ge=1, le=100_000)
    eta: int = Field(default=3, ge=2, le=100)
    patience: int | None = Field(default=None, ge=1, le=100_000)
    point_epochs: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        min_length=1,
        strict=False,
        description="a list of whole numbers from 1 to max_epochs, one for each start point",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "SchedulerSettings":
        if self.min_epochs > self.max_epochs:
            raise ValueError(f"min_epochs {self.min_epochs} is above max_epochs {self.max_epochs}")
        if self.point_epochs is not None:
            if self.kind != "none":
                raise ValueError(f"point_epochs: belongs to kind 'none', which has no rungs (kind is {self.kind!r})")
            if max(self.point_epochs) > self.max_epochs:
                raise ValueError(f"point_epochs {max(self.point_epochs)} is above max_epochs {self.max_epochs}")
        return self


class Resources(Record):
    """The resources of a trial: ``workers``, each with ``cpus`` and ``gpus``. `auto` is one GPU if there are any, else none.

    A single worker may use a fraction of a GPU. Several workers divide each batch among them (DDP), and need whole GPUs or
    none. ``slots`` trials train at a time. `auto` is as many as the cluster holds, also as nodes come and go.
    """

    slots: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = Field(
        default="auto", description="'auto' or a whole number from 1 to 1000"
    )
    workers: int = Field(default=1, ge=1, le=1024)
    cpus: float = bounded(default=1.0, gt=0, le=1024)
    gpus: Annotated[float, bounded(ge=0, le=1024)] | Literal["auto"] = Field(
        default="auto", description="'auto', a fraction from 0 to 1, or a whole number to 1024"
    )

    @model_validator(mode="after")
    def _possible(self) -> "Resources":
        if not isinstance(self.gpus, str) and alike(self.gpus, round(self.gpus)):
            object.__setattr__(self, "gpus", float(round(self.gpus)))
        if not isinstance(self.gpus, str) and self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus: above 1, give a whole number {given(self.gpus)}")
        if not isinstance(self.gpus, str) and 0 < self.gpus < 1 < self.workers:
            raise ValueError(
                f"gpus: {self.workers} workers a trial cannot share a GPU; give each one, or none {given(self.gpus)}"
            )
        return self


class FinalStage(Record):
    """The final stage. ``members`` trials are trained to the top rung, and at most ``max_members`` of their weights combined.

    ``ensemble`` names the selection of members, and ``thresholds`` the rule that fits thresholds. Greedy selection takes
    ``rounds`` in each of ``bags`` redraws of the rows. ``tta`` says how the members score an image, and ``onnx`` whether a graph
    is written too.
    """

    members: int = Field(default=3, ge=1, le=100)
    max_members: int = Field(default=5, ge=1, le=100)
    rounds: int = Field(default=20, ge=1, le=1000)
    bags: int = Field(default=BAGS, ge=1, le=1000)
    ensemble: str = "greedy"
    thresholds: str = DEFAULT
    tta: TestTime = "none"
    onnx: bool = True

    @model_validator(mode="after")
    def _known(self) -> "FinalStage":
        for name, registry in (("ensemble", SELECTIONS), ("thresholds", RULES)):
            if fault := registry.fault(getattr(self, name)):
                raise ValueError(f"{name}: {fault}")
        return self
