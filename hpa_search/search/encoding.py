"""Configurations as rows of numbers, for a model of their scores.

A code is a row of one number a dimension: the index of a choice, the place of a number between its bounds, 0 to 1, or NaN where the
dimension does not exist. Features are what distances are measured between. A choice has one feature a value, which is 1/sqrt(2) or 0:
two different values are at distance 1. A number has its place, and one that may not exist a second feature that tells.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpa_search.config import Value
from hpa_search.space.dimension import Choices, Dimension, several
from hpa_search.space.search import Point, Search

Codes = NDArray[np.float64]
"""Configurations by dimensions."""
ABSENCE = 0.5
"""The distance of a number in the middle of its range from one that does not exist."""
_Condition = tuple[int, list[int]]
"""A dimension's index, and the codes of its values that are named."""


class Encoding:
    """Codes of the configurations of one search, and features of the codes."""

    def __init__(self, search: Search) -> None:
        self._space: Mapping[str, Dimension] = search.space
        self._index = {name: index for index, name in enumerate(search.space)}
        self.choices = np.array([len(dimension.choice or ()) for dimension in search.space.values()])
        """The number of each dimension's choices, 0 for a number."""
        self._steps = np.array([_steps(dimension) for dimension in search.space.values()])
        """The steps between the bounds of each whole number, 0 for others."""
        self._when = [self._conditions(dimension.when) for dimension in search.space.values()]
        self._unless = [self._conditions(dimension.unless) for dimension in search.space.values()]
        self._exclude = [self._conditions(choices) for choices in search.exclude]
        self._may_be_absent = [bool(dimension.when or dimension.unless) for dimension in search.space.values()]
        widths = [count or 1 + absent for count, absent in zip(self.choices.tolist(), self._may_be_absent, strict=True)]
        self.owners = np.repeat(np.arange(len(widths)), widths)
        """The dimension that each feature belongs to."""

    def codes(self, points: Sequence[Point]) -> Codes:
        """Return the codes of configurations."""
        found = np.full((len(points), len(self._space)), np.nan)
        for name, index in self._index.items():
            rows = [row for row, point in enumerate(points) if name in point]
            if rows:
                found[rows, index] = _codes(self._space[name], [points[row][name] for row in rows])
        return found

    def point(self, code: Codes) -> dict[str, Value]:
        """Return the configuration of one code."""
        there = zip(self._space.items(), code.tolist(), strict=True)
        return {name: _value(dimension, place) for (name, dimension), place in there if not np.isnan(place)}

    def random(self, rng: np.random.Generator, count: int) -> Codes:
        """Return random codes, in which every dimension exists. See `settle`."""
        drawn = rng.random((count, len(self._space)))
        return np.where(self.choices > 0, np.floor(drawn * self.choices), drawn)

    def settle(self, codes: Codes) -> Codes:
        """Return a copy without the dimensions that do not exist beside the others, and without the rows that are excluded.

        Whole numbers are where they can be.
        """
        settled = codes.copy()
        whole = self._steps > 0
        settled[:, whole] = np.round(settled[:, whole] * self._steps[whole]) / self._steps[whole]
        for index, (when, unless) in enumerate(zip(self._when, self._unless, strict=True)):
            active = np.ones(len(settled), bool)
            for condition in when:
                active &= _holds(condition, settled)
            for condition in unless:
                active &= ~_holds(condition, settled)
            settled[~active, index] = np.nan
        excluded = np.zeros(len(settled), bool)
        for conditions in self._exclude:
            excluded |= np.logical_and.reduce([_holds(condition, settled) for condition in conditions])
        return settled[~excluded]

    def features(self, codes: Codes) -> NDArray[np.float64]:
        """Return the features of codes, configurations by features."""
        parts = []
        for column, count, may_be_absent in zip(codes.T, self.choices, self._may_be_absent, strict=True):
            if count:
                parts.append((column[:, None] == np.arange(count)) * 0.5**0.5)
            elif may_be_absent:
                absent = np.isnan(column)
                parts += [np.where(absent, 0.0, column - 0.5)[:, None], np.where(absent, ABSENCE, 0.0)[:, None]]
            else:
                parts.append(column[:, None] - 0.5)
        return np.concatenate(parts, axis=1)

    def _conditions(self, choices: Choices) -> list[_Condition]:
        found = []
        for name, wanted in choices.items():
            among = self._space[name].choice or ()
            found.append((self._index[name], [among.index(value) for value in several(wanted)]))
        return found


def _holds(condition: _Condition, codes: Codes) -> NDArray[np.bool_]:
    index, wanted = condition
    return np.isin(codes[:, index], wanted)


def _codes(dimension: Dimension, values: list[Value]) -> NDArray[np.float64]:
    if dimension.choice is not None:
        indices = {choice: index for index, choice in enumerate(dimension.choice)}
        return np.array([indices[value] for value in values], float)
    (low, high), numbers = dimension.bounds, np.array(values, float)
    if low == high:
        return np.zeros(len(values))
    if dimension.log_range is not None:
        return np.log(numbers / low) / math.log(high / low)
    return (numbers - low) / (high - low)


def _steps(dimension: Dimension) -> int:
    return int(dimension.bounds[1] - dimension.bounds[0]) if dimension.integer is not None else 0


def _value(dimension: Dimension, place: float) -> Value:
    if dimension.choice is not None:
        return dimension.choice[int(place)]
    low, high = dimension.bounds
    value = low * (high / low) ** place if dimension.log_range is not None else low + place * (high - low)
    return round(value) if dimension.integer is not None else min(max(value, low), high)
