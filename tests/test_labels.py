import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.labels import LABELS, NUM_LABELS, parse_target, to_target, to_vector


def test_there_are_28_distinct_labels_in_the_competitions_order():
    assert len(set(LABELS)) == NUM_LABELS == 28
    assert (LABELS[0], LABELS[16], LABELS[25], LABELS[27]) == ("Nucleoplasm", "Cytokinetic bridge", "Cytosol", "Rods & rings")


@given(st.sets(st.integers(0, 27), min_size=1), st.randoms(use_true_random=False))
def test_a_target_goes_around_unchanged(ids, random):
    words = [str(index) for index in ids]
    random.shuffle(words)
    parsed = parse_target(" ".join(words))
    vector = to_vector(parsed)
    assert parsed == tuple(sorted(ids))
    assert (vector.dtype, vector.shape, vector.sum()) == (bool, (28,), len(ids))
    assert parse_target(to_target(vector)) == parsed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no label"),
        ("  \t", "no label"),
        ("28", "out of range 0 to 27"),
        ("-1", "'-1' is not a label id"),
        ("1.0", "'1.0' is not a label id"),
        ("16.0", "'16.0' is not a label id.*; write it as 16$"),
        ("20.", "'20.' is not a label id.*; write it as 20$"),
        ("1.5", "'1.5' is not a label id; expected numbers from 0 to 27 separated by spaces$"),
        ("1,2", "'1,2' is not a label id"),
        ("١", "is not a label id"),
        ("²", "is not a label id"),
        ("3 03", "repeated"),
        ("5 5", "repeated"),
        ("9" * 4000, "out of range"),
    ],
)
def test_a_wrong_target_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_target(text)


def test_a_vector_without_labels_is_an_empty_target():
    assert to_target(np.zeros(28, dtype=bool)) == ""
    assert not to_vector(()).any()
