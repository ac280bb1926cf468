"""A search as its file describes it: what varies, for how long, on what. `hpa_search.search.reading` reads the file."""

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hpa_search.config import CONDITIONS, Record, TrialConfig, Value, bounded
from hpa_search.errors import nearest
from hpa_search.labels import NUM_LABELS
from hpa_search.space.dimension import Choices, Dimension, Draw, Suggests, matches, several
from hpa_search.space.settings import About, Budget, FinalStage, Objective, Resources, SchedulerSettings, SplitSettings
from hpa_search.training.check import check_value

Point = Mapping[str, Value]

MOST_POINTS = 10_000
MOST_DRAWS = 1000
"""So many draws in a row may be excluded before the space counts as empty."""


class Search(Record):
    """A whole search, as its file describes it."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="a name of 1 to 64 letters, digits, '_', '.', '-', a letter or digit first",
    )
    about: About | None = None
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    fixed: Mapping[str, Value] = Field(default_factory=dict)
    space: Mapping[str, Dimension] = Field(default_factory=dict)
    exclude: tuple[Choices, ...] = Field(default=(), strict=False)
    start_points: tuple[Point, ...] = Field(default=(), strict=False)
    sampler: Literal["gp", "tpe", "random", "grid"] = "gp"
    labels: tuple[Annotated[int, Field(ge=0, lt=NUM_LABELS)], ...] | None = Field(
        default=None, min_length=1, strict=False, description=f"a list of label ids from 0 to {NUM_LABELS - 1}"
    )
    objective: Objective = Objective()
    split: SplitSettings = SplitSettings()
    budget: Budget = Budget()
    scheduler: SchedulerSettings = SchedulerSettings()
    resources: Resources = Resources()
    final: FinalStage = FinalStage()
    keep: Literal["needed", "all"] | Annotated[float, bounded(gt=0, le=1e6)] = Field(
        default="needed", description="'needed', 'all', or a number of GB above 0"
    )
    repeatable: bool = True

    @model_validator(mode="after")
    def _sound(self) -> "Search":
        for where, names in (("fixed", self.fixed), ("space", self.space)):
            for name in names:
                _check_name(where, name)
        for name in set(self.fixed) & set(self.space):
            raise ValueError(f"'{name}' is both fixed and in the space; keep one")
        for name, value in self.fixed.items():
            check_value(f"fixed.{name}", name, value)
        for position, (name, dimension) in enumerate(self.space.items()):
            self._check_dimension(name, dimension, list(self.space)[:position])
        for name in (*self.fixed, *self.space):
            self._check_condition(name)
        for number, choices in enumerate(self.exclude):
            self._check_exclusion(f"exclude.{number}", choices)
        object.__setattr__(self, "start_points", tuple(map(self._settled, self.start_points)))
        for number, point in enumerate(self.start_points):
            self._check_start_point(f"start_points.{number}", point)
        if (epochs_of := self.scheduler.point_epochs) is not None and len(epochs_of) != len(self.start_points):
            raise ValueError(
                f"scheduler.point_epochs: {len(epochs_of)} numbers for {len(self.start_points)} start_points; give one each"
            )
        for epochs in self._possible("last_epochs", None):
            if isinstance(epochs, int) and epochs >= self.scheduler.max_epochs:
                raise ValueError(
                    f"last_epochs {epochs}: leaves nothing of scheduler.max_epochs {self.scheduler.max_epochs} before it; "
                    "lower last_epochs"
                )
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: a label is named twice")
        self._check_end()
        return self

    def _check_dimension(self, name: str, dimension: Dimension, earlier: list[str]) -> None:
        for value in dimension.extremes:
            check_value(f"space.{name}", name, value)
        for key, choices in (("when", dimension.when), ("unless", dimension.unless)):
            for parent, wanted in choices.items():
                if parent not in earlier:
                    known = nearest(parent, earlier)
                    raise ValueError(f"space.{name}.{key}: no dimension '{parent}' stands above this one{known}")
                self._check_wanted(f"space.{name}.{key}.{parent}", parent, wanted)

    def _check_wanted(self, where: str, name: str, wanted: Value | tuple[Value, ...]) -> None:
        """Raise ValueError unless ``wanted`` names choices of the dimension ``name``."""
        if wanted == ():
            raise ValueError(f"{where}: names no value")
        choices = self.space[name].choice
        for value in several(wanted):
            if choices is None or value not in choices:
                raise ValueError(f"{where}: {value!r} is not among its choices {list(choices or ())}")

    def _check_condition(self, name: str) -> None:
        """Raise ValueError if a setting may have a value where it does not exist, such as a gamma beside bce."""
        when = CONDITIONS.get(name)
        if when is None:
            return
        possible = self._possible(when.parent, self.space.get(name))
        if name in self.fixed and when.parent in self.space:
            # A fixed setting counts only where it exists, see `trial_config`; it must exist somewhere.
            if not any(map(when.holds, possible)):
                raise ValueError(f"fixed.{name}: the space has no {when.parent} beside which it exists; it belongs to {when}")
            return
        for value in possible:
            if not when.holds(value):
                raise ValueError(
                    f"{'space' if name in self.space else 'fixed'}.{name}: exists beside {when.parent} {value!r} too, where it "
                    f"has no meaning; it belongs to {when}"
                )

    def _possible(self, parent: str, dimension: Dimension | None) -> tuple[Value, ...]:
        """Return the values that the setting ``parent`` may have where ``dimension`` exists."""
        field = TrialConfig.model_fields[parent]
        if parent not in self.space:
            return (self.fixed.get(parent, field.default),)
        found = self.space[parent]
        when, unless = (dimension.when, dimension.unless) if dimension else ({}, {})
        wanted = several(when[parent]) if parent in when else found.extremes
        left = tuple(value for value in wanted if value not in several(unless.get(parent, ())))
        absent = (found.when or found.unless) and parent not in when
        return (*left, field.default) if absent else left

    def _check_exclusion(self, where: str, choices: Choices) -> None:
        if not choices:
            raise ValueError(f"{where}: names no dimension, so it would exclude everything")
        for name, wanted in choices.items():
            if name not in self.space:
                raise ValueError(f"{where}: '{name}' is not a dimension of the space{nearest(name, self.space)}")
            self._check_wanted(f"{where}.{name}", name, wanted)

    def _settled(self, point: Point) -> Point:
        """Return ``point`` with values that miss a choice or bound by rounding set to it. The sampler refuses values outside."""
        return {name: self.space[name].settled(value) if name in self.space else value for name, value in point.items()}

    def _check_start_point(self, where: str, point: Point) -> None:
        for name, value in point.items():
            if name not in self.space:
                raise ValueError(f"{where}: '{name}' is not a dimension of the space{nearest(name, self.space)}")
            dimension = self.space[name]
            if not dimension.holds(value) and dimension.choice is not None:
                raise ValueError(f"{where}.{name}: {value!r} is not among the choices {list(dimension.choice)}")
            if not dimension.holds(value):
                raise ValueError(f"{where}.{name}: {value!r} is outside {_ends(dimension)}")
        for name in point:
            for parent in (*self.space[name].when, *self.space[name].unless):
                if parent not in point:
                    raise ValueError(f"{where}: names {name} without {parent}, on which it depends")
        unused = set(point) - set(self.suggest(Draw(random.Random(0), point)))
        if unused:
            raise ValueError(
                f"{where}: {', '.join(sorted(unused))} does not exist beside the point's other values (see its 'when')"
            )
        if self.excluded(point):
            raise ValueError(f"{where}: is excluded (see 'exclude')")

    def _check_end(self) -> None:
        if self.sampler != "grid":
            if self.budget.endless:
                raise ValueError("budget: give at least one of trials, hours, epochs, or the search would never end")
            return
        if ranges := [name for name, dimension in self.space.items() if dimension.choice is None]:
            raise ValueError(f"space.{ranges[0]}: a grid needs every dimension to be a choice")
        if self.start_points:
            raise ValueError("start_points: a grid has points of its own")
        points = sum(1 for _ in itertools.islice(self._grid(), MOST_POINTS + 1))
        if not 0 < points <= MOST_POINTS:
            raise ValueError(f"space: the grid has {'no point' if not points else f'over {MOST_POINTS:,} points'}")

    def _grid(self) -> Iterator[Point]:
        return (point for point in self.assignments(list(self.space)) if not self.excluded(point))

    def assignments(self, names: list[str]) -> Iterator[Point]:
        """Yield every assignment of the dimensions ``names``, in the file's order. A range has its two ends as values.

        ``names`` must include the dimensions that they depend on.
        """

        def extend(drawn: dict[str, Value], left: list[str]) -> Iterator[Point]:
            if not left:
                yield drawn
                return
            name, dimension = left[0], self.space[left[0]]
            if not dimension.active(drawn):
                yield from extend(drawn, left[1:])
                return
            for value in dict.fromkeys(dimension.extremes):
                yield from extend({**drawn, name: value}, left[1:])

        return extend({}, [name for name in self.space if name in names])

    @property
    def points(self) -> tuple[Point, ...]:
        """The values of trials 0, 1, ...: all points of a grid, else the start points."""
        return tuple(self._grid()) if self.sampler == "grid" else self.start_points

    def most_epochs(self, number: int) -> int:
        """Return the epochs after which trial ``number`` is complete."""
        ends = self.scheduler.point_epochs or ()
        return ends[number] if number < len(ends) else self.scheduler.max_epochs

    @property
    def most_trials(self) -> int | None:
        """The most trials of the search; None if only hours or epochs end it."""
        if self.sampler != "grid":
            return self.budget.trials
        return min(len(self.points), self.budget.trials or MOST_POINTS)

    def excluded(self, drawn: Point) -> bool:
        """Return whether the space excludes ``drawn``."""
        return any(matches(choices, drawn) for choices in self.exclude)

    def suggest(self, trial: Suggests) -> dict[str, Value]:
        """Return a value for each active dimension, drawn in the file's order, or the first values of a point that is excluded."""
        drawn: dict[str, Value] = {}
        for name, dimension in self.space.items():
            if dimension.active(drawn):
                drawn[name] = dimension.suggest(name, trial)
                if self.excluded(drawn):
                    break
        return drawn

    def draw(self, rng: random.Random, given: Point | None = None) -> dict[str, Value]:
        """Return a random configuration that is not excluded. It has the values of ``given`` where they are active.

        Raises ValueError if `exclude` rejects MOST_DRAWS draws in a row.
        """
        for _ in range(MOST_DRAWS):
            drawn = self.suggest(Draw(rng, given or {}))
            if not self.excluded(drawn):
                return drawn
        raise ValueError(f"exclude: {MOST_DRAWS} draws in a row were excluded; little or nothing of the space is left")

    def trial_config(self, drawn: Point) -> TrialConfig:
        """Return a trial's whole configuration: the drawn settings, and the fixed settings that exist beside them."""
        values = {**self.fixed, **drawn}
        for name in self.fixed:
            when = CONDITIONS.get(name)
            if when and when.parent in self.space and not when.holds(_value(values, when.parent)):
                del values[name]
        return TrialConfig.model_validate(values)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs at which trials are compared: min_epochs * eta^k while below max_epochs, then max_epochs."""
        settings, levels = self.scheduler, []
        if settings.kind != "none":
            epochs = settings.min_epochs
            while epochs < settings.max_epochs:
                levels.append(epochs)
                epochs *= settings.eta
        return (*levels, settings.max_epochs)


def _value(values: Point, name: str) -> Value:
    return values.get(name, TrialConfig.model_fields[name].default)


def _ends(dimension: Dimension) -> str:
    """Return the ends of a range with all their digits. Whole numbers have no decimal point."""
    return " to ".join(f"{end:g}" if float(f"{end:g}") == end else str(end) for end in dimension.bounds)


def _check_name(where: str, name: str) -> None:
    if name not in TrialConfig.model_fields:
        known = nearest(name, TrialConfig.model_fields) or f"; there are {', '.join(TrialConfig.model_fields)}"
        raise ValueError(f"{where}.{name}: no setting of a trial has this name{known}")
