import re

import numpy as np
import pytest
from scipy.special import expit

from hpa_search.predictions.values import Scale, advice, beyond, scale_of


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(-2, 2, (150, 28))


def changed(array, value):
    array = array.copy()
    array[3, 5] = value
    return array


@pytest.mark.parametrize(
    ("made", "scale", "words"),
    [
        (expit, Scale.PROBABILITIES, ""),
        (lambda z: changed(expit(z).astype(np.float16), 1.001), Scale.PROBABILITIES, ""),
        (lambda z: changed(expit(z), 1.2), Scale.NEARLY, "a probability does not lie there: correct these values"),
        (lambda z: changed(expit(z), -0.3), Scale.NEARLY, "correct these values"),
        (lambda z: expit(z) * 1.2, Scale.NEARLY, "correct these values"),
        (lambda z: z, Scale.LOGITS, "add --logits"),
        (lambda z: z / 20, Scale.LOGITS, "add --logits"),
        (lambda z: changed(expit(z), 1.5), Scale.LOGITS, "if these are logits, add --logits; if not, correct them"),
        (lambda z: expit(z) * 100, Scale.COUNTS, "not logits: .* percentages by dividing them by 100"),
        (lambda z: (expit(z) * 255).astype(np.uint8), Scale.COUNTS, "not logits"),
    ],
)
def test_what_values_look_like_decides_what_is_advised(logits, made, scale, words):
    values = made(logits)
    assert scale_of(values) is scale
    if words:
        assert beyond(values).any()
        assert re.search(words, advice(scale))
