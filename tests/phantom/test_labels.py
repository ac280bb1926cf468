"""Label sets are the competition's, and as frequent."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.errors import UserError
from hpa_search.labels import LABELS, NUM_LABELS, parse_target, to_vector
from hpa_search.phantom.labels import class_counts, draw_label_sets, real_label_sets

ENDOSOMES, LYSOSOMES = LABELS.index("Endosomes"), LABELS.index("Lysosomes")
NEVER_ALONE = (LYSOSOMES, LABELS.index("Microtubule ends"), LABELS.index("Mitotic spindle"))


def vectors(label_sets):
    return np.array([to_vector(labels) for labels in label_sets])


def real_shares():
    sets, counts = real_label_sets()
    return counts @ vectors(sets) / counts.sum()


def test_the_table_has_every_set_once_and_every_image():
    sets, counts = real_label_sets()
    assert len(set(sets)) == len(sets) == 577
    assert counts.min() >= 1 and counts.sum() == 31_072
    assert sum(len(labels) * count for labels, count in zip(sets, counts, strict=True)) == 50_782
    totals = dict(zip(LABELS, counts @ vectors(sets), strict=True))
    # As the competition's pages and papers count them.
    assert (totals["Nucleoplasm"], totals["Cytosol"], totals["Rods & rings"]) == (12_885, 8_228, 11)


def test_the_table_is_that_of_the_real_labels(real_data):
    table = pd.read_csv(real_data / "labels" / "train.csv")
    sets, counts = real_label_sets()
    real = table["Target"].map(parse_target).value_counts()
    assert len(table) == 31_072
    assert dict(zip(sets, counts.tolist(), strict=True)) == real.to_dict()
    assert class_counts(table["Target"].map(parse_target).tolist()).tolist() == (counts @ vectors(sets)).tolist()


def test_classes_come_at_real_frequencies():
    number, shares = 20_000, real_shares()
    drawn = class_counts(draw_label_sets(number, 0, np.random.default_rng(1)))
    deviations = (drawn - number * shares) / np.sqrt(number * shares * (1 - shares))
    assert np.abs(deviations).max() < 4


def test_labels_come_together_as_they_really_do():
    sets, counts = real_label_sets()
    together = (vectors(sets).T * counts) @ vectors(sets) / counts.sum()
    drawn = vectors(draw_label_sets(20_000, 0, np.random.default_rng(2))).astype(float)
    spread = np.sqrt(together * (1 - together) / len(drawn))
    assert (np.abs(drawn.T @ drawn / len(drawn) - together) <= 5 * spread + 2 / len(drawn)).all()
    assert np.bincount(drawn.sum(axis=1).astype(int))[1] > 8_000, "about half of the images have one label"


def test_sets_come_at_real_frequencies():
    sets, counts = real_label_sets()
    drawn = Counter(draw_label_sets(20_000, 0, np.random.default_rng(3)))
    expected = 20_000 * counts / counts.sum()
    assert set(drawn) <= set(sets)
    assert (np.abs([drawn[labels] for labels in sets] - expected) < 5 * np.sqrt(expected) + 3).all()


@pytest.mark.parametrize("lift", [0, 40])
def test_lysosomes_never_come_without_endosomes(lift):
    drawn = vectors(draw_label_sets(20_000, lift, np.random.default_rng(3)))
    assert drawn[:, LYSOSOMES].sum() >= max(lift, 1)
    assert drawn[drawn[:, LYSOSOMES], ENDOSOMES].all()
    assert not drawn[:, list(NEVER_ALONE)][drawn.sum(axis=1) == 1].any()


@settings(max_examples=25)
@given(number=st.integers(1, 300), part=st.floats(0, 0.03), seed=st.integers(0, 2**32))
def test_every_class_is_lifted_and_every_set_is_real(number, part, seed):
    lift = int(part * number)
    drawn = draw_label_sets(number, lift, np.random.default_rng(seed))
    assert len(drawn) == number
    assert set(drawn) <= set(real_label_sets()[0])
    assert class_counts(drawn).min() >= lift


def test_a_lift_bends_the_rare_classes_alone():
    plain, lifted = (class_counts(draw_label_sets(4_000, lift, np.random.default_rng(4))) for lift in (0, 60))
    common = plain > 400
    assert common.sum() >= 4 and lifted.min() >= 60
    # A common class loses the images that were drawn anew for the rare ones, which are a quarter at most.
    assert (lifted[common] > 0.7 * plain[common]).all()
    assert (lifted[plain < 30] < 150).all()


def test_a_lift_that_images_cannot_hold():
    with pytest.raises(
        UserError, match=r"50 images cannot hold 40 images of each of the 28 classes .*short of .*Rods & rings.*smaller lift"
    ):
        draw_label_sets(50, 40, np.random.default_rng(0))


def test_without_strictness_it_goes_as_far_as_it_goes():
    with pytest.raises(UserError):
        draw_label_sets(40, 4, np.random.default_rng(0))
    lifted, plain = (draw_label_sets(40, lift, np.random.default_rng(0), strict=False) for lift in (4, 0))
    assert len(lifted) == 40 and set(lifted) <= set(real_label_sets()[0])
    short = [np.maximum(4 - class_counts(drawn), 0).sum() for drawn in (lifted, plain)]
    assert 0 < short[0] < short[1]


def test_the_same_stream_draws_the_same():
    first, again, other = (draw_label_sets(200, 4, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first == again != other


def test_counts_of_no_images():
    assert class_counts([(0, 25), (25,)])[[0, 25]].tolist() == [1, 2]
    assert class_counts([(0,)]).shape == (NUM_LABELS,)
