"""The search-space file: what may vary, for how long, on what; read, checked and frozen."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from hpa_search.config import Record, TrialConfig
from hpa_search.errors import UserError, nearest
from hpa_search.explain import allowed, explain, faults, given
from hpa_search.models.build import check_backbone
from hpa_search.search.settings import Budget, FinalStage, Objective, Resources, SchedulerSettings, SplitSettings
from hpa_search.search.space_file import load_mapping, read_text

Value = str | bool | int | float | None
DRAWS_CHECKED = 300


class Suggests(Protocol):
    """What a dimension needs of an Optuna trial, or of anything else that can draw a value."""

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """Return one of the choices."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a float from the closed interval, uniform in value or in its logarithm."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return an integer from the closed interval."""


class Dimension(Record):
    """One thing that varies: a `choice`, a `range`, a `log_range` or an `integer`, perhaps only `when` others have a value."""

    choice: tuple[Value, ...] | None = Field(default=None, min_length=1)
    range: tuple[float, float] | None = None
    log_range: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    when: Mapping[str, Value | tuple[Value, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        kinds = [kind for kind in ("choice", "range", "log_range", "integer") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"give exactly one of choice, range, log_range, integer (given: {', '.join(kinds) or 'none'})")
        if self.choice is not None and len(set(self.choice)) != len(self.choice):
            raise ValueError("two choices are equal (0, 0.0 and false are)")
        if self.choice is None and self.bounds[0] > self.bounds[1]:
            raise ValueError(f"the lower end {self.bounds[0]} is above the upper end {self.bounds[1]}")
        if self.log_range is not None and self.log_range[0] <= 0:
            raise ValueError("the lower end of a log_range must be above 0")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The two ends of a range; not for a choice."""
        found = self.range or self.log_range or self.integer
        assert found is not None
        return found

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that have to be valid for all to be: every choice, or both ends."""
        return self.choice if self.choice is not None else self.bounds

    def active(self, drawn: Mapping[str, Value]) -> bool:
        """Return whether this dimension exists beside the values drawn before it."""
        return all(
            name in drawn and drawn[name] in (wanted if isinstance(wanted, tuple) else (wanted,))
            for name, wanted in self.when.items()
        )

    def suggest(self, name: str, trial: Suggests) -> Value:
        """Draw a value by way of ``trial``."""
        if self.choice is not None:
            return trial.suggest_categorical(name, list(self.choice))
        if self.integer is not None:
            return trial.suggest_int(name, *self.integer)
        return trial.suggest_float(name, *self.bounds, log=self.log_range is not None)


class Search(Record):
    """A whole search, as its file says."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="a name of 1 to 64 letters, digits, '_', '.', '-', a letter or digit first",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    fixed: Mapping[str, Value] = Field(default_factory=dict)
    space: Mapping[str, Dimension] = Field(default_factory=dict)
    start_points: tuple[Mapping[str, Value], ...] = Field(default=(), strict=False)
    objective: Objective = Objective()
    split: SplitSettings = SplitSettings()
    budget: Budget
    scheduler: SchedulerSettings = SchedulerSettings()
    resources: Resources = Resources()
    final: FinalStage = FinalStage()

    @model_validator(mode="after")
    def _sound(self) -> "Search":
        for where, names in (("fixed", self.fixed), ("space", self.space)):
            for name in names:
                if name not in TrialConfig.model_fields:
                    raise ValueError(f"{where}.{name}: no setting of a trial has this name{_nearest_setting(name)}")
        for name in set(self.fixed) & set(self.space):
            raise ValueError(f"'{name}' is both fixed and in the space; keep one")
        for name, value in self.fixed.items():
            _check_value(f"fixed.{name}", name, value)
        for position, (name, dimension) in enumerate(self.space.items()):
            self._check_dimension(name, dimension, list(self.space)[:position])
        for number, point in enumerate(self.start_points):
            self._check_start_point(number, point)
        return self

    def _check_dimension(self, name: str, dimension: Dimension, earlier: list[str]) -> None:
        for value in dimension.extremes:
            _check_value(f"space.{name}", name, value)
        for parent, wanted in dimension.when.items():
            if parent not in earlier:
                raise ValueError(f"space.{name}.when: no dimension '{parent}' stands above this one{nearest(parent, earlier)}")
            if wanted == ():
                raise ValueError(f"space.{name}.when.{parent}: names no value")
            choices = self.space[parent].choice
            for value in wanted if isinstance(wanted, tuple) else (wanted,):
                if choices is None or value not in choices:
                    raise ValueError(f"space.{name}.when.{parent}: {value!r} is not among its choices {list(choices or ())}")

    def _check_start_point(self, number: int, point: Mapping[str, Value]) -> None:
        where = f"start_points.{number}"
        for name, value in point.items():
            if name not in self.space:
                raise ValueError(f"{where}: '{name}' is no dimension of the space{nearest(name, self.space)}")
            dimension = self.space[name]
            if dimension.choice is not None and value not in dimension.choice:
                raise ValueError(f"{where}.{name}: {value!r} is not among the choices {list(dimension.choice)}")
            if dimension.choice is None and not _within(value, dimension.bounds):
                raise ValueError(f"{where}.{name}: {value!r} is outside {dimension.bounds[0]:g} to {dimension.bounds[1]:g}")
        unused = set(point) - set(self.suggest(_Draw(random.Random(0), point)))
        if unused:
            raise ValueError(
                f"{where}: {', '.join(sorted(unused))} does not exist beside the point's other values (see its 'when')"
            )

    def suggest(self, trial: Suggests) -> dict[str, Value]:
        """Draw one value for each dimension that is active, in the file's order."""
        drawn: dict[str, Value] = {}
        for name, dimension in self.space.items():
            if dimension.active(drawn):
                drawn[name] = dimension.suggest(name, trial)
        return drawn

    def draw(self, rng: random.Random, fixed: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Draw a configuration at random, with the values of ``fixed`` where they are active."""
        return self.suggest(_Draw(rng, fixed or {}))

    def trial_config(self, drawn: Mapping[str, Value]) -> TrialConfig:
        """Return the trial's whole configuration: the fixed settings and the drawn ones."""
        return TrialConfig.model_validate({**self.fixed, **drawn})

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at which trials are compared, min_epochs * eta^k, ending with max_epochs."""
        settings, levels = self.scheduler, []
        if settings.kind != "none":
            epochs = settings.min_epochs
            while epochs < settings.max_epochs:
                levels.append(epochs)
                epochs *= settings.eta
        return (*levels, settings.max_epochs)


class _Draw:
    """Draws at random, unless a value is given beforehand."""

    def __init__(self, rng: random.Random, given: Mapping[str, Value]) -> None:
        self._rng, self._given = rng, given

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        drawn = self._rng.choice(choices)
        return self._given.get(name, drawn)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        drawn = low * (high / low) ** self._rng.random() if log else self._rng.uniform(low, high)
        return self._given.get(name, drawn)  # type: ignore[return-value]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        drawn = self._rng.randint(low, high)
        return self._given.get(name, drawn)  # type: ignore[return-value]


def _within(value: Value, bounds: tuple[float, float]) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bounds[0] <= value <= bounds[1]


def _check_value(where: str, name: str, value: Value) -> None:
    field = TrialConfig.model_fields[name]
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value, strict=True)  # type: ignore[arg-type]
    except ValidationError:
        raise ValueError(f"{where}: expected {allowed(field)} {given(value)}") from None


def _nearest_setting(name: str) -> str:
    return nearest(name, TrialConfig.model_fields) or f"; there are {', '.join(TrialConfig.model_fields)}"


def parse_search(text: str, where: str) -> Search:
    """Read a search-space file's text; ``where`` names it in messages.

    Every configuration the space can draw has to be buildable, so a few hundred are drawn and checked here.
    Raises UserError naming the key, the value and what is allowed.
    """
    content = load_mapping(text, where)
    try:
        search = Search.model_validate(content)
    except ValidationError as error:
        raise explain(error, where, Search) from None
    _check_draws(search, where)
    return search


def _check_draws(search: Search, where: str) -> None:
    rng = random.Random(0)
    drawn = [search.draw(rng, point) for point in search.start_points] + [search.draw(rng) for _ in range(DRAWS_CHECKED)]
    for values in drawn:
        try:
            check_backbone(search.trial_config(values))
        except ValueError as error:
            fault = faults(error, TrialConfig)[0] if isinstance(error, ValidationError) else error
            what = f"the space holds a configuration that cannot work, {values}" if values else "the fixed settings cannot work"
            raise UserError(f"{where}: {what}: {fault}") from None


def read_search(path: Path) -> tuple[Search, str]:
    """Return the search of a file and the file's text. Raises UserError as ``parse_search``, or if it cannot be read."""
    text = read_text(path)
    return parse_search(text, str(path)), text
