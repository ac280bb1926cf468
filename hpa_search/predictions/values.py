"""What the values of a model are: probabilities, logits, or neither; and what to do about those that are not what was said."""

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.rounding import outside_unit, spare

FAR = 0.5
"""How far outside 0 to 1 no miscalculated probability lies."""
MANY = 0.01
"""The share of values outside 0 to 1 above which these are no probabilities. Logits have most of theirs below 0."""
LARGE = 20.0
"""Where none is negative, the largest of percentages is above this, and hardly a logit is."""


class Scale(Enum):
    """What values look like."""

    PROBABILITIES = "from 0 to 1"
    NEARLY = "from 0 to 1, but for some that are a little outside"
    LOGITS = "far outside 0 to 1, or many of them"
    COUNTS = "many above 1 and none below 0: percentages, or 8-bit values"


def scale_of(values: NDArray[Any]) -> Scale:
    """Return what finite ``values`` look like; a value that misses 0 or 1 by rounding lies within."""
    outside = beyond(values)
    if not outside.any():
        return Scale.PROBABILITIES
    many = outside.mean() > MANY
    if many and values.min() >= -spare(values.dtype) and (values.max() > LARGE or values.max() < 1 + FAR):
        return Scale.COUNTS if values.max() > LARGE else Scale.NEARLY
    return Scale.LOGITS if many or values.min() <= -FAR or values.max() >= 1 + FAR else Scale.NEARLY


def beyond(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of ``values`` lie outside 0 to 1 by more than rounding of their type explains."""
    return outside_unit(values, spare(values.dtype))


def advice(scale: Scale) -> str:
    """Return what to do about values of ``scale`` that are to be probabilities."""
    if scale is Scale.LOGITS:
        return "if these are logits, add --logits; if not, correct them"
    if scale is Scale.COUNTS:
        return "none is below 0, so these are no logits: bring them to 0 to 1, percentages by dividing them by 100"
    return "a probability does not: correct these values, or leave the row out"
