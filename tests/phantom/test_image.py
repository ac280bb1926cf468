"""What a picture tells, and what it must not tell."""

import numpy as np
import pytest

from hpa_search.labels import LABELS, NUM_LABELS
from hpa_search.phantom.cells import draw_field
from hpa_search.phantom.image import draw_image, draw_protein
from hpa_search.phantom.labels import real_label_sets

SIZE = 64
RED, GREEN, BLUE, YELLOW = range(4)
DIVIDING = (LABELS.index("Cytokinetic bridge"), LABELS.index("Mitotic spindle"))


def image(labels, seed=0, size=SIZE):
    return draw_image(labels, size, np.random.default_rng(seed))


def test_an_image_is_four_planes_of_bytes():
    drawn = image((0, 25), size=48)
    assert drawn.shape == (4, 48, 48) and drawn.dtype == np.uint8
    assert (np.ptp(drawn, axis=(1, 2)) > 40).all(), "every channel shows something"


def test_an_image_repeats_from_its_seed():
    assert (image((7, 2), seed=1) == image((7, 2), seed=1)).all()
    assert (image((7, 2), seed=1) != image((7, 2), seed=2)).any()
    assert (image((7,), seed=1)[GREEN] != image((2,), seed=1)[GREEN]).any()


def test_every_real_label_set_can_be_drawn():
    longest = sorted(real_label_sets()[0], key=len)[-3:]
    for labels in [*((label,) for label in range(NUM_LABELS)), *longest]:
        drawn = image(labels, size=48)
        assert drawn[GREEN].std() > 5


@pytest.mark.parametrize("channel", [RED, BLUE, YELLOW])
def test_reference_channels_show_the_same_cells_whatever_the_labels(channel):
    for seed in range(4):
        pictures = [image((label,), seed)[channel].ravel() for label in range(NUM_LABELS) if label not in DIVIDING]
        assert np.corrcoef(pictures).min() > 0.7
        assert np.corrcoef(pictures[0], image((0,), seed + 4)[channel].ravel())[0, 1] < 0.6


def test_mean_and_deviation_of_green_do_not_depend_on_the_label():
    """Whatever the pattern, they are those that were drawn: here, from the ranges of the generator."""
    for label in range(NUM_LABELS):
        green = np.array([image((label,), seed)[GREEN].ravel() for seed in range(3)]).astype(float)
        assert ((green.std(axis=1) > 10) & (green.std(axis=1) < 45)).all()
        assert ((green.mean(axis=1) / green.std(axis=1) > 0.4) & (green.mean(axis=1) / green.std(axis=1) < 0.95)).all()


def test_brightness_and_contrast_do_not_separate_a_spot_from_a_cytosol():
    """Their means over 40 images differ by less than three standard errors, though a spot covers a hundredth of the area."""
    measures = []
    for label in (LABELS.index("Centrosome"), LABELS.index("Cytosol")):
        greens = [draw_image((label,), 48, np.random.default_rng([label, seed]))[GREEN] for seed in range(40)]
        measures.append(np.array([[green.mean(), green.std()] for green in greens]))
    spots, cytosols = measures
    error = np.sqrt((spots.var(axis=0) + cytosols.var(axis=0)) / 40)
    assert (np.abs(spots.mean(axis=0) - cytosols.mean(axis=0)) < 3 * error).all()


def test_the_background_is_dark_and_little_is_burnt_out():
    drawn = np.stack([image((0, 25), seed) for seed in range(12)])
    assert np.percentile(drawn, 10) < 12
    assert (drawn == 255).mean() < 0.01 < (drawn > 60).mean()


def test_green_follows_the_labels():
    """Green of a nuclear protein is like blue, of one of the reticulum like yellow, in nearly all images."""
    right = 0
    for seed in range(20):
        for label, like, unlike in (
            (LABELS.index("Nucleoplasm"), BLUE, YELLOW),
            (LABELS.index("Endoplasmic reticulum"), YELLOW, BLUE),
        ):
            drawn = image((label,), seed)
            alike = np.corrcoef(drawn.reshape(4, -1))[GREEN]
            right += alike[like] > alike[unlike]
    assert right >= 38


def test_each_label_adds_its_pattern():
    field = draw_field(SIZE, np.random.default_rng(0), mitosis=False, division=False)
    nucleus = np.zeros((SIZE, SIZE))
    for cell in field.cells:
        nucleus[cell.window] += cell.nucleus
    nuclear, both = (draw_protein(field, labels, np.random.default_rng(1)) for labels in ((0,), (0, 25)))
    assert nuclear.shape == (SIZE, SIZE) and nuclear.min() >= 0
    assert (nuclear * nucleus).sum() > 0.9 * nuclear.sum()
    assert (both >= nuclear).all() and (both * nucleus).sum() < 0.8 * both.sum()
    assert 0.3 < nuclear.std() <= 1.01


def test_a_protein_that_no_cell_shows_leaves_an_image_without_signal():
    field = draw_field(SIZE, np.random.default_rng(0), mitosis=False, division=False)
    assert draw_protein(field, DIVIDING, np.random.default_rng(1)).max() == 0
