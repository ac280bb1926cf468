import numpy as np
import pytest

from hpa_search.data.phantom_cells import draw_field
from hpa_search.data.phantom_image import draw_image, draw_protein
from hpa_search.labels import NUM_LABELS


@pytest.mark.parametrize("size", [32, 100, 256])
def test_every_label_can_be_drawn_at_every_size(size):
    for label in range(0, NUM_LABELS, 1 if size == 32 else 9):
        image = draw_image([label], size, np.random.default_rng([size, label]))
        assert image.shape == (4, size, size)
        assert image.dtype == np.uint8
        assert (image.std(axis=(1, 2)) > 2).all()


def test_the_same_stream_draws_the_same_image_and_another_another():
    first, again, other = (draw_image([0, 25], 64, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2)).all()


def test_labels_add_up():
    field = draw_field(96, np.random.default_rng(1), False, False)
    single, both = (draw_protein(field, labels, np.random.default_rng(8)) for labels in ([0], [0, 25]))
    nucleus, cytoplasm = np.zeros((96, 96)), np.zeros((96, 96))
    for cell in field.cells:
        nucleus[cell.window] += cell.nucleus
        cytoplasm[cell.window] += cell.cytoplasm
    added = both - single
    assert added.min() >= -1e-12
    assert (single * cytoplasm).sum() < 0.1 * (single * nucleus).sum()
    assert (added * cytoplasm).sum() > 2 * (added * nucleus).sum()


def test_brightness_and_contrast_of_green_do_not_tell_a_spot_from_a_cytosol():
    """Means over 60 images differ by less than three standard errors, although a spot covers 1 % of what a cytosol does."""
    measures = []
    for label in (19, 25):
        images = [draw_image([label], 64, np.random.default_rng([label, seed]))[1] for seed in range(60)]
        measures.append([[image.mean(), image.std()] for image in images])
    spots, cytosols = np.array(measures)
    error = np.sqrt(spots.var(axis=0) / 60 + cytosols.var(axis=0) / 60)
    assert (np.abs(spots.mean(axis=0) - cytosols.mean(axis=0)) < 3 * error).all()
