import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.data.phantom_labels import class_counts, draw_label_sets, real_label_sets
from hpa_search.errors import UserError
from hpa_search.labels import LABELS, NUM_LABELS, parse_target

LYSOSOMES, ENDOSOMES = LABELS.index("Lysosomes"), LABELS.index("Endosomes")
NEVER_ALONE = [LYSOSOMES, LABELS.index("Microtubule ends"), LABELS.index("Mitotic spindle")]


def test_the_table_has_the_competitions_totals():
    sets, counts = real_label_sets()
    assert len(set(sets)) == len(sets) == 577
    assert counts.sum() == 31072
    assert sum(len(labels) * count for labels, count in zip(sets, counts, strict=True)) == 50782
    totals = sum(count * np.isin(range(NUM_LABELS), labels) for labels, count in zip(sets, counts, strict=True))
    assert (totals[0], totals[25], totals[ENDOSOMES], totals[LYSOSOMES], totals[27]) == (12885, 8228, 45, 28, 11)


def test_the_table_is_that_of_the_real_labels():
    root = os.environ.get("HPA_TEST_DATA")
    if not root:
        pytest.skip("HPA_TEST_DATA is not set: no real labels")
    targets = pd.read_csv(Path(root) / "labels" / "train.csv")["Target"]
    assert Counter(map(parse_target, targets)) == Counter(dict(zip(*real_label_sets(), strict=True)))


def test_unlifted_sets_come_at_real_frequencies():
    sets, counts = real_label_sets()
    drawn = Counter(draw_label_sets(20000, 0, np.random.default_rng(3)))
    shares = counts / counts.sum()
    for labels, share in zip(sets, shares, strict=True):
        deviation = (20000 * share * (1 - share)) ** 0.5
        assert abs(drawn[labels] - 20000 * share) < 5 * deviation + 3, labels


@settings(max_examples=25, deadline=None)
@given(number=st.integers(200, 1500), share=st.floats(0, 0.035), seed=st.integers(0, 10**6))
def test_lifted_classes_have_their_images_and_every_set_is_real(number, share, seed):
    lift = int(share * number)
    drawn = draw_label_sets(number, lift, np.random.default_rng(seed))
    assert len(drawn) == number
    assert class_counts(drawn).min() >= lift
    assert set(drawn) <= set(real_label_sets()[0])
    assert all(ENDOSOMES in labels for labels in drawn if LYSOSOMES in labels)
    assert not any(labels == (label,) for labels in drawn for label in NEVER_ALONE)


def test_lifting_leaves_the_common_classes_the_commonest():
    before, after = (class_counts(draw_label_sets(2000, lift, np.random.default_rng(1))) for lift in (0, 60))
    assert after.max() > 6 * 60
    assert set(np.argsort(-after)[:2]) == set(np.argsort(-before)[:2]) == {0, 25}


def test_a_lift_that_cannot_be_names_what_is_short():
    with pytest.raises(UserError, match=r"100 images cannot hold 20 .*short of .*smaller lift"):
        draw_label_sets(100, 20, np.random.default_rng(0))


def test_not_strict_lifts_as_far_as_the_images_go():
    drawn = draw_label_sets(10, 3, np.random.default_rng(0), strict=False)
    assert len(drawn) == 10
    assert set(drawn) <= set(real_label_sets()[0])
