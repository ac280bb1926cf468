"""The ensemble on disk: its models with their weights, and the rule for their mean, as `ensemble.json`."""

from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError, model_validator

from hpa_search.config import Record, bounded
from hpa_search.errors import UserError
from hpa_search.explain import explain
from hpa_search.files import write_json
from hpa_search.kinds import START, foreign
from hpa_search.labels import LABELS, NUM_LABELS
from hpa_search.rounding import sum_fault
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.final import Ensemble
from hpa_search.scoring.thresholds import DecisionRule

CHOSEN = "ensemble.json"
FORMAT = 1


class Model(Record):
    """A model by its name in the predictions; ``map`` brings its logits to the others' scale. One of weight 0 takes no part."""

    name: str = Field(min_length=1)
    weight: float = bounded(ge=0, le=1)
    map: dict[str, Any]


class Chosen(Record):
    """What labels rows: the mean of weight x mapped logits over the models, and the rule (`DecisionRule`) for it.

    ``ensemble`` and ``thresholds`` say how it was chosen.
    """

    format: int
    version: str
    labels: tuple[str, ...]
    ensemble: str
    thresholds: str
    models: tuple[Model, ...] = Field(min_length=1)
    rule: dict[str, Any]

    @model_validator(mode="after")
    def _sound(self) -> "Chosen":
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not known to this version, which reads format {FORMAT}")
        if self.labels != LABELS:
            raise ValueError("labels: not those of this task")
        if len({model.name for model in self.models}) < len(self.models):
            raise ValueError("models: two have one name")
        if total := sum_fault(model.weight for model in self.models):
            raise ValueError(f"models: the weights do not add up to 1, but to {total}")
        for number, model in enumerate(self.models):
            if (slopes := _platt(f"models.{number}.map", model.map).slope.size) != NUM_LABELS:
                raise ValueError(f"models.{number}.map: {slopes} slopes; expected {NUM_LABELS}")
        try:
            thresholds = self.decision_rule.thresholds
        except ValueError as error:
            raise ValueError(f"rule: {error}") from None
        if thresholds.size != NUM_LABELS:
            raise ValueError(f"rule: {thresholds.size} thresholds; expected {NUM_LABELS}")
        return self

    @property
    def decision_rule(self) -> DecisionRule:
        """The calibration and thresholds of the ensemble."""
        return DecisionRule.from_json(self.rule)

    @property
    def members(self) -> tuple[Model, ...]:
        """The models that take part."""
        return tuple(model for model in self.models if model.weight > 0)

    @property
    def of_members(self) -> Ensemble:
        """The ensemble as a function of the logits of `members`."""
        weights = np.array([model.weight for model in self.members])
        return Ensemble(weights, tuple(Platt.from_json(model.map) for model in self.members), self.decision_rule)


def _platt(where: str, content: dict[str, Any]) -> Platt:
    try:
        return Platt.from_json(content)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def write_chosen(folder: Path, chosen: Chosen) -> None:
    """Write ``ensemble.json`` into ``folder``; `read_chosen` reads the same numbers back."""
    write_json(folder / CHOSEN, chosen.model_dump(mode="json"))


def read_chosen(folder: Path) -> Chosen:
    """Read the ensemble in ``folder``; UserError that names the field which is missing or wrong."""
    path = folder / CHOSEN
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{folder}: no ensemble here, for {CHOSEN} cannot be read ({error.strerror}); "
            "give the --out of `hpa-search ensemble --predictions FILE --out DIR`"
        ) from None
    again = "It is damaged or foreign; make it again with `hpa-search ensemble --predictions FILE --out DIR`"
    if kind := foreign(content[:START]):
        raise UserError(f"{path}: is {kind.what}{f'; {kind.remedy}' if kind.remedy else ''}\n{again}")
    try:
        return Chosen.model_validate_json(content.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise UserError(f"{explain(error, str(path), Chosen)}\n{again}") from None
