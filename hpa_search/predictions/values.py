"""Distinguish probabilities, logits and other numbers, and advise on values of the wrong kind."""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.rounding import outside_unit, spare

FAR = 0.5
"""A miscalculated probability lies less than this outside 0 to 1."""
MANY = 0.01
"""With a larger share of values outside 0 to 1, they are not probabilities. Most logits are below 0."""
LARGE = 20.0
"""Without negative values, the largest percentage is above this, and hardly any logit."""


class Scale(Enum):
    """The kinds of values."""

    PROBABILITIES = "from 0 to 1"
    NEARLY = "from 0 to 1, but some a little outside"
    LOGITS = "far outside 0 to 1, or many of them"
    COUNTS = "many above 1 and none below 0: percentages, or 8-bit values"


def scale_of(values: NDArray[Any]) -> Scale:
    """Return the kind of finite ``values``. A value that misses 0 or 1 by rounding lies within."""
    outside = beyond(values)
    if not outside.any():
        return Scale.PROBABILITIES
    many = outside.mean() > MANY
    if many and values.min() >= -spare(values.dtype) and (values.max() > LARGE or values.max() < 1 + FAR):
        return Scale.COUNTS if values.max() > LARGE else Scale.NEARLY
    return Scale.LOGITS if many or values.min() <= -FAR or values.max() >= 1 + FAR else Scale.NEARLY


def beyond(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of ``values`` lie outside 0 to 1 by more than the rounding of their type."""
    return outside_unit(values, spare(values.dtype))


def advice(scale: Scale) -> str:
    """Return the remedy for values of ``scale`` that should be probabilities."""
    if scale is Scale.LOGITS:
        return "if these are logits, add --logits; if not, correct them"
    if scale is Scale.COUNTS:
        return "none is below 0, so these are not logits: bring them to 0 to 1, percentages by dividing them by 100"
    return "a probability does not lie there: correct these values, or leave the row out"
