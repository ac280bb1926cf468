import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.data.phantom_cells import draw_field, splat, walk


@settings(max_examples=12, deadline=None)
@given(size=st.sampled_from([32, 48, 64, 128, 200]), seed=st.integers(0, 10**6), mitosis=st.booleans(), division=st.booleans())
def test_cells_own_separate_ground_and_their_nuclei_lie_on_it(size, seed, mitosis, division):
    field = draw_field(size, np.random.default_rng(seed), mitosis, division)
    owners = np.zeros((size, size), dtype=int)
    for cell in field.cells:
        owners[cell.window] += cell.inside
        assert cell.nucleus.shape == cell.gap.shape == cell.edge.shape == cell.shape
        assert (cell.nucleus[~cell.inside] == 0).all()
        assert np.isfinite(cell.edge).all()
    assert owners.max() == 1
    assert field.cells[0].mitotic == mitosis
    assert (field.cells[0].sister is not None) == division
    assert not any(cell.mitotic or cell.sister is not None for cell in field.cells[1:])


def test_a_field_of_512_px_holds_10_to_40_cells_and_a_smaller_one_fewer():
    small, large = (
        np.mean([len(draw_field(size, np.random.default_rng(seed), False, False).cells) for seed in range(8)])
        for size in (96, 512)
    )
    assert 10 <= large <= 40
    assert 2 <= small <= large / 2


def test_splat_keeps_the_weight_and_the_place():
    plane = splat((9, 9), np.array([[2.25, 5.5], [7.0, 1.0]]), np.array([1.0, 3.0]))
    assert plane.sum() == pytest.approx(4)
    assert plane[7, 1] == pytest.approx(3)
    assert (plane[2, 5], plane[3, 6]) == pytest.approx((0.375, 0.125))


def test_splat_drops_points_outside():
    assert splat((4, 4), np.array([[-3.0, 1.0], [2.0, 9.0]])).sum() == 0
    assert splat((4, 4), np.empty((0, 2))).sum() == 0


def test_a_walk_that_does_not_turn_is_straight_and_as_long_as_asked():
    (curve,) = walk(np.random.default_rng(0), np.array([[1.0, 2.0]]), np.array([0.0]), 14, 0)
    np.testing.assert_allclose(curve[-1], [1, 16])
    np.testing.assert_allclose(curve[:, 0], 1)
