"""One dimension of a search: what varies, and how its values are drawn."""

import random
from collections.abc import Mapping
from typing import Protocol

from pydantic import Field, model_validator

from hpa_search.config import Record, Value
from hpa_search.rounding import alike, settled

Choices = Mapping[str, Value | tuple[Value, ...]]
"""Settings by name, each with one value or several. In a file: `{loss: focal}` or `{loss: [focal, bce]}`."""


class Suggests(Protocol):
    """The methods of an Optuna trial that a dimension draws with. `Draw` has them too."""

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """Return one of the choices."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a float from the closed interval, uniform in value or in its logarithm."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return an integer from the closed interval."""


class Dimension(Record):
    """A setting that varies: a `choice`, a `range`, a `log_range` or an `integer`.

    `when` and `unless` name values of other dimensions. The setting exists only if every condition of `when` holds, and none of
    `unless`.
    """

    choice: tuple[Value, ...] | None = Field(default=None, min_length=1)
    range: tuple[float, float] | None = None
    log_range: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    when: Choices = Field(default_factory=dict)
    unless: Choices = Field(default_factory=dict)

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
        """The two ends of a range. A choice has no bounds."""
        found = self.range or self.log_range or self.integer
        assert found is not None
        return found

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Every choice, or both ends of a range. If these values are valid, all values are."""
        return self.choice if self.choice is not None else self.bounds

    def active(self, drawn: Mapping[str, Value]) -> bool:
        """Return whether this dimension exists beside the values ``drawn`` before it."""
        return matches(self.when, drawn) and not any(matches({name: wanted}, drawn) for name, wanted in self.unless.items())

    def suggest(self, name: str, trial: Suggests) -> Value:
        """Return a value that ``trial`` draws."""
        if self.choice is not None:
            return trial.suggest_categorical(name, list(self.choice))
        if self.integer is not None:
            return trial.suggest_int(name, *self.integer)
        return trial.suggest_float(name, *self.bounds, log=self.log_range is not None)

    def settled(self, value: Value) -> Value:
        """Return the choice or the bound that ``value`` misses by rounding alone, or else ``value``."""
        if not isinstance(value, float) or self.holds(value):
            return value
        if self.choice is not None:
            numbers = (choice for choice in self.choice if isinstance(choice, int | float) and not isinstance(choice, bool))
            return next((choice for choice in numbers if alike(choice, value)), value)
        return settled(value, *self.bounds)

    def holds(self, value: Value) -> bool:
        """Return whether ``value`` is a choice, or within the bounds."""
        if self.choice is not None:
            return value in self.choice
        return isinstance(value, int | float) and not isinstance(value, bool) and self.bounds[0] <= value <= self.bounds[1]


def several(wanted: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the values that a file gives as one value or as a list."""
    return wanted if isinstance(wanted, tuple) else (wanted,)


def matches(choices: Choices, values: Mapping[str, Value]) -> bool:
    """Return whether every name in ``choices`` has one of its values there in ``values``."""
    return all(name in values and values[name] in several(wanted) for name, wanted in choices.items())


class Draw:
    """Draws at random, except for values given beforehand.

    Every call draws, so that the later draws do not depend on the values given.
    """

    def __init__(self, rng: random.Random, given: Mapping[str, Value]) -> None:
        self._rng, self._given = rng, given

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """Return the value given for ``name``, or a random choice."""
        drawn = self._rng.choice(choices)
        return self._given.get(name, drawn)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return the value given for ``name``, or a float from the closed interval."""
        drawn = low * (high / low) ** self._rng.random() if log else self._rng.uniform(low, high)
        return self._given.get(name, drawn)  # type: ignore[return-value]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return the value given for ``name``, or an integer from the closed interval."""
        drawn = self._rng.randint(low, high)
        return self._given.get(name, drawn)  # type: ignore[return-value]
