"""The scores at one rung, expected from those at the rung below: a line by least squares."""

import sys
from fractions import Fraction

PRIOR = 4
FLATTEST, STEEPEST = Fraction(1, 5), Fraction(2)
_LARGEST = sys.float_info.max


class Line:
    """Fitted to the trials that have both scores and, with the weight of PRIOR trials, to a slope of 1.

    The sums are exact, so the line does not depend on the order of the trials. A driver that goes on with another's ledger
    has the same line.
    """

    def __init__(self) -> None:
        self._trials = 0
        self._x = self._y = self._xx = self._xy = Fraction(0)
        self._fitted: tuple[float, float, float] | None = None
        """The mean of both scores, and the slope."""

    def add(self, lower: float, higher: float) -> None:
        """Take the two scores of a trial."""
        x, y = Fraction(lower), Fraction(higher)
        self._trials += 1
        self._x, self._y, self._xx, self._xy = self._x + x, self._y + y, self._xx + x * x, self._xy + x * y
        self._fitted = None

    def at(self, lower: float) -> float:
        """Return the score expected at the higher rung: ``lower`` itself before the first trial."""
        if not self._trials:
            return lower
        self._fitted = self._fitted or self._fit()
        x, y, slope = self._fitted
        return min(max(y + slope * (lower - x), -_LARGEST), _LARGEST)

    def _fit(self) -> tuple[float, float, float]:
        x, y = self._x / self._trials, self._y / self._trials
        spread, together = self._xx / self._trials - x * x, self._xy / self._trials - x * y
        prior = Fraction(PRIOR, self._trials)
        slope = (together + prior * spread) / (spread * (1 + prior)) if spread else Fraction(1)
        return float(x), float(y), float(min(max(slope, FLATTEST), STEEPEST))
