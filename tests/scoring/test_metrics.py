import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from hpa_search.scoring.metrics import (
    all_positive_floor,
    as_labels,
    average_precision,
    f1_of_counts,
    f1_per_class,
    macro_average_precision,
    macro_f1,
    sample_f1,
)


def draw(seed, rows, classes=5, distinct=None, dtype=np.float64):
    """Random scores with labels that lean on them; few ``distinct`` values make ties."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(rows, classes))
    labels = rng.random((rows, classes)) < 1 / (1 + np.exp(2 - scores))
    if distinct:
        scores = np.floor(scores * distinct)
    return scores.astype(dtype), labels


shapes = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 6), st.sampled_from([None, 1, 3]))


@settings(max_examples=60)
@given(shapes, st.sampled_from([np.float64, np.float32, np.float16]))
def test_average_precision_is_sklearns(case, dtype):
    scores, labels = draw(*case, dtype=dtype)
    ours = average_precision(scores, labels)
    for c in range(labels.shape[1]):
        if labels[:, c].any():
            assert abs(ours[c] - average_precision_score(labels[:, c], scores[:, c])) < 1e-12
        else:
            assert np.isnan(ours[c])
    present = np.flatnonzero(labels.any(axis=0))
    if present.size:
        sklearns = average_precision_score(labels[:, present], scores[:, present], average="macro")
        assert abs(macro_average_precision(scores, labels) - sklearns) < 1e-12


@settings(max_examples=60)
@given(shapes)
def test_f1_is_sklearns(case):
    scores, labels = draw(*case)
    predicted = scores > 0.5
    if labels.shape[1] == 1:
        per_class = [f1_score(labels[:, 0], predicted[:, 0], zero_division=0)]
    else:
        per_class = f1_score(labels, predicted, average=None, zero_division=0)
        assert abs(sample_f1(predicted, labels) - f1_score(labels, predicted, average="samples", zero_division=0)) < 1e-12
    assert np.abs(f1_per_class(predicted, labels) - per_class).max() < 1e-12
    assert abs(macro_f1(predicted, labels) - np.mean(per_class)) < 1e-12


@settings(max_examples=30)
@given(shapes)
def test_order_of_rows_and_classes_and_monotone_maps_change_nothing(case):
    scores, labels = draw(*case)
    order = np.random.default_rng(0).permutation(len(scores))
    expected = average_precision(scores, labels)
    np.testing.assert_array_equal(average_precision(scores[order], labels[order]), expected)
    np.testing.assert_array_equal(average_precision(np.exp(scores / 8), labels), expected)
    classes = np.random.default_rng(1).permutation(scores.shape[1])
    np.testing.assert_array_equal(average_precision(scores[:, classes], labels[:, classes]), expected[classes])
    found = f1_per_class(scores[:, classes] > 0, labels[:, classes])
    np.testing.assert_array_equal(found, f1_per_class(scores > 0, labels)[classes])
    assert macro_f1(scores[order] > 0, labels[order]) == macro_f1(scores > 0, labels)


def test_average_precision_by_hand():
    labels = np.array([[1], [0], [1], [0]])
    assert average_precision([[4.0], [3.0], [2.0], [1.0]], labels)[0] == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)
    # The tie of rows 1 and 2 is one cut with precision 2/3.
    assert average_precision([[4.0], [2.0], [2.0], [1.0]], labels)[0] == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)
    assert average_precision([[2.0], [4.0], [2.0], [1.0]], labels)[0] == pytest.approx(2 / 3, abs=1e-15)
    assert average_precision(np.full((4, 1), 7.0), labels)[0] == 0.5


def test_infinite_scores_have_a_rank():
    assert average_precision([[np.inf], [0.0], [-np.inf]], [[1], [0], [1]])[0] == pytest.approx((1 + 2 / 3) / 2)


def test_macro_average_precision_takes_the_classes_asked_for():
    scores, labels = draw(3, 50)
    labels[:, 2] = False
    each = average_precision(scores, labels)
    assert macro_average_precision(scores, labels) == pytest.approx(each[[0, 1, 3, 4]].mean(), abs=1e-15)
    assert macro_average_precision(scores, labels, [4, 1]) == pytest.approx(each[[1, 4]].mean(), abs=1e-15)
    assert macro_average_precision(scores, labels, np.arange(5) == 3) == each[3]
    with pytest.raises(ValueError, match=r"without positives: \[2\]"):
        macro_average_precision(scores, labels, [1, 2])
    with pytest.raises(ValueError, match="at least one class"):
        macro_average_precision(scores, np.zeros_like(labels))


def test_f1_by_hand():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    predicted = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    np.testing.assert_allclose(f1_per_class(predicted, labels), [2 / 3, 2 / 3, 0], rtol=0, atol=1e-15)
    assert macro_f1(predicted, labels) == pytest.approx(4 / 9)
    assert sample_f1(predicted, labels) == pytest.approx((1 + 2 / 3 + 0) / 3)
    np.testing.assert_array_equal(f1_of_counts([0, 3], [0, 6]), [0, 1])


def test_all_positive_floor():
    # Prevalence q has F1 2q/(1+q) when everything is predicted.
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert all_positive_floor(labels) == pytest.approx((1 + 0 + 0.4) / 3)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.array([[0.1], [np.nan]]), np.ones((2, 1)), "NaN"),
        (np.ones((2, 1)), np.ones((3, 1)), "shape"),
        (np.ones((2, 1)), np.full((2, 1), 2), "0 and 1"),
        (np.ones(2), np.ones(2), "rows x classes"),
        (np.ones((0, 3)), np.ones((0, 3)), "rows x classes"),
    ],
)
def test_wrong_arrays_are_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        average_precision(scores, labels)


def test_predictions_must_fit_the_labels():
    with pytest.raises(ValueError, match="predictions have shape"):
        macro_f1(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="predictions must hold 0 and 1"):
        sample_f1(np.full((2, 2), 0.5), np.ones((2, 2)))


@pytest.mark.parametrize(
    "labels", [[[0.9999999, 1e-9], [0, 1.000002]], [["1.0", "0"], ["0.0", " 1"]], [[b"1", b"0"], [b"0", b"1"]]]
)
def test_labels_that_another_program_wrote_are_taken_within_rounding(labels):
    assert as_labels(np.array(labels)).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([[0, 1], [100, 0]], "found 100 in row 2, column 1"),
        ([[0, 1], [1, 0.7]], "found 0.7 in row 2, column 2"),
        ([[0, 1], [1, 1.00001]], "found 1.00001 in row 2, column 2"),
        ([[0, np.nan]], "found nan in row 1, column 2"),
        ([["0", "yes"]], "found 'yes' in row 1, column 2"),
        (np.array([[0, 255]], dtype=np.uint8), "found 255 in row 1, column 2"),
    ],
)
def test_a_wrong_label_is_shown_with_its_row_and_column(labels, found):
    with pytest.raises(ValueError, match=f"labels must hold 0 and 1 only .{found}"):
        as_labels(labels)
