"""Bounds with room for rounding: a number a hair outside is moved to its bound."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RELATIVE = 1e-9
"""How far a setting may miss its bound, as a share of the bound; if the bound is 0, as a share of the other bound."""
SUM = 1e-6
"""How far the sum of weights in a program's file may be from 1."""
SHARES = 1e-3
"""How far the sum of shares in a person's file may be from 1: three times 0.333 passes."""
LEAST = 2e-6
"""How far an array's values may miss their bounds, whatever their type: files hold six digits, or sums of float32."""


def alike(one: float, other: float) -> bool:
    """Return whether two numbers are equal up to rounding."""
    return math.isclose(one, other, rel_tol=RELATIVE)


def settled(value: float, low: float | None = None, high: float | None = None) -> float:
    """Return ``value``, or the bound that it misses by rounding."""
    if low is not None and value < low and low - value <= _slack(low, high):
        return low
    if high is not None and value > high and value - high <= _slack(high, low):
        return high
    return value


def _slack(bound: float, other: float | None) -> float:
    return RELATIVE * (abs(bound) or abs(other or 0) or 1)


def sum_fault(shares: Iterable[float], slack: float = SUM) -> str:
    """Return the sum of ``shares`` with twelve digits, or an empty string if it is 1 within ``slack``."""
    total = math.fsum(shares)
    # In floats 1 - 3 * 0.333 is a little above 0.001, so the slack itself needs slack.
    return "" if abs(total - 1) <= slack * (1 + RELATIVE) + RELATIVE else f"{total:.12g}"


def spare(dtype: np.dtype[Any]) -> float:
    """Return how far values of ``dtype`` between 0 and 1 may miss these bounds by rounding."""
    eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0
    return max(LEAST + eps, 2 * eps)


def outside_unit(values: NDArray[Any], slack: float) -> NDArray[np.bool_]:
    """Return a mask of ``values`` that lie outside 0 to 1 by more than ``slack``."""
    outside = np.asarray((values < 0) | (values > 1))
    if outside.any():
        # Compare in float64: float16 cannot hold 1 + slack. A value that misses its bound by exactly the slack passes.
        outside &= np.abs(values.astype(np.float64) - 0.5) > 0.5 + slack * (1 + RELATIVE)
    return outside


def in_unit(values: NDArray[Any], slack: float) -> NDArray[Any]:
    """Return ``values`` with those outside 0 to 1 moved to the bounds.

    Raises ValueError, with the first such value, if any misses its bound by more than ``slack``.
    """
    if not values.size or (values.min() >= 0 and values.max() <= 1):
        return values
    outside = outside_unit(values, slack)
    if outside.any():
        raise ValueError(f"{digits_outside(values.flat[outside.argmax()])} lies outside 0 to 1")
    return values.clip(0, 1)


def digits(value: float | np.number[Any]) -> str:
    """Return ``value`` with the digits that distinguish it from all others of its type."""
    return str(value)


def digits_outside(value: float | np.number[Any], low: float = 0.0, high: float = 1.0) -> str:
    """Return ``value``, which lies outside ``low`` to ``high``, with six digits.

    If six digits would hide this, return all digits.
    """
    short = f"{float(value):.6g}"
    return digits(value) if low <= float(short) <= high else short
