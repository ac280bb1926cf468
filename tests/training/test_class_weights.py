import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.labels import NUM_LABELS, parse_target, to_vector
from hpa_search.training.class_weights import CLASS_WEIGHTS, LEAST_LN, class_weights


def labels_with(counts, rows):
    labels = np.zeros((rows, NUM_LABELS), dtype=bool)
    for index, count in enumerate(counts):
        labels[:count, index] = True
    return labels


def test_real_counts_give_the_published_weights():
    folder = os.environ.get("HPA_TEST_DATA")
    if not folder:
        pytest.skip("HPA_TEST_DATA is not set; it names the folder with the real label table")
    targets = pd.read_csv(Path(folder) / "labels" / "train.csv")["Target"]
    labels = np.stack([to_vector(parse_target(target)) for target in targets])
    assert labels.shape == (31072, 28)
    ln = class_weights("ln", labels)
    expected = {0: 0.345, 1: 3.169, 8: 6.372, 15: 7.299, 25: 1.021, 27: 7.946}
    assert {index: round(float(ln.positive[index]), 3) for index in expected} == expected
    assert (ln.negative == 1).all()
    frequency = class_weights("1-f", labels)
    assert frequency.positive.min() == pytest.approx(0.585, abs=0.0005)
    assert frequency.positive.max() == pytest.approx(0.9996, abs=0.00005)


def test_none_changes_nothing():
    weights = class_weights("none", labels_with([3], 10))
    assert (weights.positive == 1).all()
    assert (weights.negative == 1).all()


def test_ln_stays_positive_for_common_full_and_absent_classes():
    weights = class_weights("ln", labels_with([50, 60, 100, 0, 10], 100)).positive
    assert weights[:3].tolist() == [LEAST_LN] * 3
    assert weights[3] == pytest.approx(np.log(100))
    assert weights[4] == pytest.approx(np.log(9))


def test_one_minus_frequency_is_on_both_terms():
    weights = class_weights("1-f", labels_with([25, 0], 100))
    assert weights.positive[:2].tolist() == weights.negative[:2].tolist() == [0.75, 1.0]


@given(st.sampled_from(sorted(CLASS_WEIGHTS)), st.lists(st.integers(0, 30), min_size=28, max_size=28))
def test_never_negative_and_never_higher_for_a_commoner_class(name, counts):
    weights = class_weights(name, labels_with(counts, 30))
    order = np.argsort(counts)
    assert (np.diff(weights.positive[order]) <= 1e-12).all()
    assert (weights.positive >= 0).all()
