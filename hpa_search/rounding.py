"""Bounds with room for rounding: a number that another program moved a hair beyond its bound is brought back to it."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RELATIVE = 1e-9
"""How far a setting may miss its bound, as a share of the bound; of the other bound where this one is 0."""
SUM = 1e-6
"""How far weights that programs wrote may be from adding up to 1."""
SHARES = 1e-3
"""The same for shares that people write: three times 0.333."""
LEAST = 2e-6
"""How far an array's values may miss their bounds, whatever their type: six digits were written, or float32 was summed."""


def alike(one: float, other: float) -> bool:
    """Return whether two numbers differ by no more than rounding."""
    return math.isclose(one, other, rel_tol=RELATIVE)


def settled(value: float, low: float | None = None, high: float | None = None) -> float:
    """Return ``value``, or the bound that it misses by no more than rounding."""
    if low is not None and value < low and low - value <= _slack(low, high):
        return low
    if high is not None and value > high and value - high <= _slack(high, low):
        return high
    return value


def _slack(bound: float, other: float | None) -> float:
    return RELATIVE * (abs(bound) or abs(other or 0) or 1)


def sum_fault(shares: Iterable[float], slack: float = SUM) -> str:
    """Return the sum of ``shares`` with twelve digits unless it is 1 within ``slack``; then an empty string."""
    total = math.fsum(shares)
    # A hair more than the slack: 1 - 3 * 0.333 is a little above 0.001 in floats.
    return "" if abs(total - 1) <= slack * (1 + RELATIVE) + RELATIVE else f"{total:.12g}"


def spare(dtype: np.dtype[Any]) -> float:
    """Return how far values of ``dtype`` that lie from 0 to 1 may miss these bounds by rounding."""
    eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0
    return max(LEAST + eps, 2 * eps)


def outside_unit(values: NDArray[Any], slack: float) -> NDArray[np.bool_]:
    """Return which of ``values`` lie outside 0 to 1 by more than ``slack``."""
    outside = np.asarray((values < 0) | (values > 1))
    if outside.any():
        # In float64, as 1 + slack is no number of float16; a bound that is missed by the slack itself is kept.
        outside &= np.abs(values.astype(np.float64) - 0.5) > 0.5 + slack * (1 + RELATIVE)
    return outside


def in_unit(values: NDArray[Any], slack: float) -> NDArray[Any]:
    """Return ``values`` that lie from 0 to 1 but for ``slack`` with those outside at the bounds. Raises ValueError for others.

    The error has the first value that is beyond rounding, with all its digits.
    """
    if not values.size or (values.min() >= 0 and values.max() <= 1):
        return values
    outside = outside_unit(values, slack)
    if outside.any():
        raise ValueError(f"{digits_outside(values.flat[outside.argmax()])} lies outside 0 to 1")
    return values.clip(0, 1)


def digits(value: float | np.number[Any]) -> str:
    """Return ``value`` with as many digits as tell it from every other number of its type."""
    return str(value)


def digits_outside(value: float | np.number[Any], low: float = 0.0, high: float = 1.0) -> str:
    """Return ``value``, which lies outside ``low`` to ``high``, with six digits, or with all where six would not show that."""
    short = f"{float(value):.6g}"
    return digits(value) if low <= float(short) <= high else short
