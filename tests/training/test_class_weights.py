import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.config import TrialConfig
from hpa_search.labels import NUM_LABELS, parse_target, to_vector
from hpa_search.training.class_weights import CLASS_WEIGHTS, LEAST_LN, ClassWeights, class_weights

PUBLISHED = [
    *((1.41, 0.345), (23.78, 3.169), (7.58, 2.026), (18.91, 2.939), (15.72, 2.755), (11.36, 2.430), (29.83, 3.395)),
    *((10.01, 2.304), (585.26, 6.372), (689.49, 6.536), (1108.71, 7.011), (27.43, 3.312), (44.16, 3.788), (56.86, 4.041)),
    *((28.15, 3.337), (1478.62, 7.299), (57.63, 4.054), (146.96, 4.990), (33.45, 3.510), (19.97, 2.994), (179.65, 5.191)),
    *((7.23, 1.978), (37.74, 3.631), (9.48, 2.249), (95.50, 4.559), (2.78, 1.021), (93.73, 4.540), (2823.73, 7.946)),
]
"""#neg/#pos and its natural log of the 28 classes in the competition's training table."""


def config_of(name, **settings):
    return TrialConfig(class_weights=name, **settings)


def labels_with(counts, rows):
    labels = np.zeros((rows, NUM_LABELS), dtype=bool)
    for index, count in enumerate(counts):
        labels[:count, index] = True
    return labels


@pytest.fixture(scope="module")
def real_labels():
    folder = os.environ.get("HPA_TEST_DATA")
    if not folder:
        pytest.skip("HPA_TEST_DATA is not set; it names the folder with the real label table")
    targets = pd.read_csv(Path(folder) / "labels" / "train.csv")["Target"]
    return np.stack([to_vector(parse_target(target)) for target in targets])


def test_real_counts_give_the_published_weights(real_labels):
    assert real_labels.shape == (31072, 28)
    full, ln = (class_weights(config_of(name), real_labels) for name in ("full", "ln"))
    assert [(round(float(a), 2), round(float(b), 3)) for a, b in zip(full.positive, ln.positive, strict=True)] == PUBLISHED
    assert (ln.negative == 1).all()
    assert (full.negative == 1).all()


def test_real_counts_give_the_published_range_of_one_minus_f(real_labels):
    first, second = (class_weights(config_of("1-f", weight_power=power), real_labels).positive for power in (1.0, 2.0))
    assert (first.min(), first.max()) == (pytest.approx(0.585, abs=0.0005), pytest.approx(0.9996, abs=0.00005))
    np.testing.assert_allclose(second, first**2)


@pytest.mark.parametrize(("beta", "ratio"), [(0.99, 9.6), (0.999, 91), (0.9999, 659)])
def test_real_counts_give_the_known_ratios_of_the_effective_number(real_labels, beta, ratio):
    weights = class_weights(config_of("effective", weight_beta=beta), real_labels)
    assert weights.positive.max() / weights.positive.min() == pytest.approx(ratio, rel=0.006)
    assert weights.positive.sum() == pytest.approx(28)


def test_effective_number_of_few_counts_by_hand():
    """b = .5: the effective numbers of 1, 2 and 3 positives are 1, 1.5 and 1.75."""
    used = np.arange(28) < 3
    weights = class_weights(config_of("effective", weight_beta=0.5), labels_with([1, 2, 3], 9), used).positive[:3]
    np.testing.assert_allclose(weights / weights[0], [1, 1 / 1.5, 1 / 1.75])
    assert weights.sum() == pytest.approx(3)


def test_none_changes_nothing():
    weights = class_weights(config_of("none"), labels_with([3], 10))
    assert (weights.positive == 1).all()
    assert (weights.negative == 1).all()
    assert weights.used.all()


def test_ln_stays_positive_for_common_full_and_absent_classes():
    weights = class_weights(config_of("ln"), labels_with([50, 60, 100, 0, 10], 100)).positive
    assert weights[:3].tolist() == [LEAST_LN] * 3
    assert weights[3] == pytest.approx(np.log(100))
    assert weights[4] == pytest.approx(np.log(9))


def test_full_of_common_and_absent_classes():
    assert class_weights(config_of("full"), labels_with([50, 100, 0, 10], 100)).positive[:4].tolist() == [1, 0.01, 100, 9]


@pytest.mark.parametrize("name", sorted(set(CLASS_WEIGHTS) - {"none"}))
def test_the_site_decides_about_the_negative_term(name):
    labels = labels_with([25, 0, 3], 100)
    positive, both = (class_weights(config_of(name, weight_site=site), labels) for site in ("positive", "both"))
    assert (positive.positive == both.positive).all()
    assert (positive.negative == 1).all()
    assert (both.negative == both.positive).all()
    assert len(set(both.negative[:3])) > 1


def test_one_minus_frequency_is_on_both_terms():
    weights = class_weights(config_of("1-f"), labels_with([25, 0], 100))
    assert weights.positive[:2].tolist() == weights.negative[:2].tolist() == [0.75, 1.0]


@given(st.sampled_from(sorted(CLASS_WEIGHTS)), st.lists(st.integers(0, 30), min_size=28, max_size=28))
def test_never_negative_and_never_higher_for_a_commoner_class(name, counts):
    weights = class_weights(config_of(name), labels_with(counts, 30))
    order = np.argsort(counts)
    assert (np.diff(weights.positive[order]) <= 1e-12).all()
    assert (weights.positive >= 0).all()


@given(st.sampled_from(sorted(CLASS_WEIGHTS)), st.lists(st.booleans(), min_size=28, max_size=28).filter(any))
def test_classes_out_of_use_change_no_other(name, used):
    used = np.array(used)
    labels = labels_with(range(1, 29), 40)
    changed = labels & used
    first, second = (class_weights(config_of(name), each, used) for each in (labels, changed))
    assert (first.positive == second.positive).all()
    assert (first.used == used).all()
    assert (first.positive[~used] == 1).all()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"positive": np.full(28, np.nan)}, "positive class weights must be finite"),
        ({"negative": np.full(28, -1.0)}, "negative class weights must be finite"),
        ({"negative": np.ones(27)}, "shapes differ"),
        ({"used": np.zeros(28, dtype=bool)}, "at least one class"),
    ],
)
def test_impossible_weights_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        ClassWeights(**{"positive": np.ones(28), "negative": np.ones(28), **fields})


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="class_weights: expected one of"):
        class_weights(config_of("lm"), labels_with([1], 4))
