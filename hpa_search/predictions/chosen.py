"""The ensemble on disk, `ensemble.json`: its models with their weights, and the rule for their mean."""

from codecs import BOM_UTF8
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from hpa_search.config import Record, bounded
from hpa_search.errors import UserError
from hpa_search.explain import explain
from hpa_search.files import write_json
from hpa_search.kinds import START, foreign
from hpa_search.labels import LABELS
from hpa_search.scoring.final import Ensemble
from hpa_search.scoring.records import Calibration, Rule, check_weights, combined
from hpa_search.scoring.thresholds import DecisionRule

CHOSEN = "ensemble.json"
FORMAT = 1


class Model(Record):
    """A model by its name in the predictions.

    ``map`` brings its logits to the scale of the others. A model of weight 0 takes no part.
    """

    name: str = Field(min_length=1)
    weight: float = bounded(ge=0, le=1)
    map: Calibration


class Chosen(Record):
    """An ensemble of models: the weighted mean of their mapped logits, and the rule that labels it.

    ``ensemble`` and ``thresholds`` name the selection and the rule that made it.
    """

    format: int
    version: str
    labels: tuple[str, ...]
    ensemble: str
    thresholds: str
    models: tuple[Model, ...] = Field(min_length=1)
    rule: Rule

    @model_validator(mode="after")
    def _check(self) -> "Chosen":
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not known to this version, which reads format {FORMAT}")
        if self.labels != LABELS:
            raise ValueError("labels: not those of this task")
        if len({model.name for model in self.models}) < len(self.models):
            raise ValueError("models: two have one name")
        check_weights("models", self.models)
        return self

    @property
    def decision_rule(self) -> DecisionRule:
        """The calibration and thresholds of the ensemble."""
        return self.rule.decision

    @property
    def members(self) -> tuple[Model, ...]:
        """The models with a weight above 0."""
        return tuple(model for model in self.models if model.weight > 0)

    @property
    def of_members(self) -> Ensemble:
        """The ensemble as a function of the logits of `members`."""
        return combined(self.members, self.rule)


def write_chosen(folder: Path, chosen: Chosen) -> None:
    """Write ``ensemble.json`` into ``folder``; `read_chosen` reads the same numbers back."""
    write_json(folder / CHOSEN, chosen.model_dump(mode="json"))


def read_chosen(folder: Path) -> Chosen:
    """Read the ensemble in ``folder``. Raises UserError that names the field that is missing or wrong."""
    path = folder / CHOSEN
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{folder}: holds no ensemble: {CHOSEN} cannot be read ({error.strerror}); "
            "give the --out of `hpa-search ensemble --predictions FILE --out DIR`"
        ) from None
    again = "The file is damaged or foreign; make it again with `hpa-search ensemble --predictions FILE --out DIR`"
    if kind := foreign(content[:START]):
        raise UserError(f"{path}: is {kind.what}{f'; {kind.remedy}' if kind.remedy else ''}\n{again}")
    try:
        return Chosen.model_validate_json(content.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise UserError(f"{explain(error, str(path), Chosen)}\n{again}") from None
