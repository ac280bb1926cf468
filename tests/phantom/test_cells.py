"""Where cells lie, and the brushes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.phantom.cells import draw_field, splat, walk

SIZES = st.sampled_from([32, 48, 64, 96])
SEEDS = st.integers(0, 2**32)


def field(size=96, seed=0, mitosis=False, division=False):
    return draw_field(size, np.random.default_rng(seed), mitosis, division)


@settings(max_examples=25)
@given(size=SIZES, seed=SEEDS)
def test_no_two_cells_share_ground_and_all_lie_on_the_field(size, seed):
    owners, cells = np.zeros((size, size), dtype=int), field(size, seed).cells
    assert len(cells) >= 1
    for cell in cells:
        assert owners[cell.window].shape == cell.shape
        owners[cell.window] += cell.inside
        for plane in (cell.radial, cell.nuclear, cell.edge, cell.gap, cell.nucleus, cell.cytoplasm, cell.body):
            assert plane.shape == cell.shape and plane.min() >= 0
    assert owners.max() == 1


@settings(max_examples=25)
@given(size=SIZES, seed=SEEDS)
def test_planes_say_where_in_the_cell_a_pixel_is(size, seed):
    for cell in field(size, seed).cells:
        assert (cell.edge[~cell.inside] == 0).all() and (cell.edge[cell.inside] > 0).all()
        assert (cell.gap[cell.inside] > 0).all()
        for part in (cell.nucleus, cell.cytoplasm, cell.body):
            assert part.max() <= 1 and (part[~cell.inside] == 0).all()
        assert (cell.nucleus[cell.inside & (cell.nuclear < 0.9)] == 1).all()
        assert (cell.nucleus[cell.nuclear > 1.1] == 0).all()
        assert np.allclose(cell.cytoplasm + cell.body * cell.nucleus, cell.body)


def test_nuclei_take_a_real_share_of_their_cells():
    whole = [c for seed in range(8) for c in field(96, seed).cells if min(c.shape) > 3 * c.radius]
    shares = [cell.nucleus.sum() / cell.inside.sum() for cell in whole]
    assert len(shares) > 10
    assert 0.12 < np.median(shares) < 0.4 and np.max(shares) < 0.8


def test_landmarks_lie_where_they_belong():
    for cell in field(192, 1).cells:
        assert 2 <= len(cell.nucleoli) <= 4
        for point, low, high in [*((p, 0, 0.9) for p in cell.nucleoli), (cell.organizer, 1.0, 1.6)]:
            row, column = np.round(point).astype(int)
            if 0 <= row < cell.shape[0] and 0 <= column < cell.shape[1]:
                slack = 1.5 / (0.36 * cell.radius)
                assert low - slack < cell.nuclear[row, column] < high + slack
        assert np.allclose(cell.poles.mean(axis=0), cell.centre)


@settings(max_examples=30)
@given(size=SIZES, seed=SEEDS)
def test_dividing_cells_are_the_first_and_whole_enough_to_be_seen(size, seed):
    mitosis, division = field(size, seed, mitosis=True).cells, field(size, seed, division=True).cells
    assert [cell.mitotic for cell in mitosis] == [True] + [False] * (len(mitosis) - 1)
    assert [cell.sister is not None for cell in division] == [True] + [False] * (len(division) - 1)
    for first in (mitosis[0], division[0]):
        middle = first.centre + [first.window[0].start, first.window[1].start]
        assert (np.abs(middle - size / 2) < 0.35 * size).all()
    assert 1.5 < np.hypot(*(division[0].sister - division[0].centre)) / (50 * division[0].unit) < 2.6
    assert not any(cell.mitotic or cell.sister is not None for cell in field(size, seed).cells)


def test_a_small_image_shows_fewer_cells_each_of_them_smaller():
    small, large = ([field(size, seed) for seed in range(12)] for size in (48, 192))
    assert np.mean([len(f.cells) for f in small]) < 0.7 * np.mean([len(f.cells) for f in large])
    assert max(f.unit for f in small) < min(f.unit for f in large)


def test_a_field_of_512_px_holds_as_many_cells_as_a_real_one():
    numbers = [len(field(512, seed).cells) for seed in range(4)]
    assert 10 <= np.mean(numbers) <= 40 and min(numbers) >= 5


def test_a_field_repeats_from_its_seed():
    first, again, other = field(64, 7), field(64, 7), field(64, 8)
    assert [c.window for c in first.cells] == [c.window for c in again.cells] != [c.window for c in other.cells]
    assert all(
        (a.edge == b.edge).all() and (a.nucleoli == b.nucleoli).all() for a, b in zip(first.cells, again.cells, strict=True)
    )


@given(points=st.lists(st.tuples(st.floats(1, 8), st.floats(1, 11)), min_size=1, max_size=5), weight=st.floats(0.1, 9))
def test_splats_keep_their_weight_and_their_place(points, weight):
    plane = splat((10, 13), np.array(points), weight)
    rows, columns = np.indices(plane.shape)
    assert plane.sum() == pytest.approx(weight * len(points))
    middle = [(plane * rows).sum() / plane.sum(), (plane * columns).sum() / plane.sum()]
    assert middle == pytest.approx(np.mean(points, axis=0).tolist())


def test_splats_off_the_plane_are_cut():
    assert splat((4, 4), np.array([[-5.0, 1.0], [1.0, 9.0]])).sum() == 0
    assert splat((4, 4), np.array([[-0.5, 1.0]])).sum() == pytest.approx(0.5)
    assert splat((4, 4), np.empty((0, 2))).sum() == 0


def test_a_walk_that_does_not_turn_is_straight():
    starts = np.array([[0.0, 0.0], [5.0, 5.0]])
    curves = walk(np.random.default_rng(0), starts, np.array([0.0, np.pi / 2]), 14, 0)
    assert curves.shape == (2, 20, 2)
    assert np.allclose(curves[:, -1], [[0, 14], [19, 5]])


def test_a_walk_turns_as_much_as_asked():
    curves = walk(np.random.default_rng(0), np.zeros((400, 2)), np.zeros(400), 28, 0.05)
    steps = np.diff(curves, axis=1)
    assert np.allclose(np.hypot(steps[..., 0], steps[..., 1]), 0.7)
    headings = np.arctan2(steps[..., 0], steps[..., 1])
    assert np.diff(headings, axis=1).std() / 0.7**0.5 == pytest.approx(0.05, rel=0.05)


def test_points_fall_where_the_density_is():
    cell = field().cells[0]
    points = np.round(cell.scatter(np.random.default_rng(0), 300, cell.nucleus)).astype(int)
    inside = np.pad(cell.nucleus > 0, 1)[points[:, 0] + 1, points[:, 1] + 1]
    assert inside.mean() > 0.97  # a point is anywhere in its pixel, so a few round into the next
    assert cell.scatter(np.random.default_rng(0), 5, np.zeros(cell.shape)).shape == (0, 2)
    assert cell.scatter(np.random.default_rng(0), 5, cell.inside).shape == (5, 2), "a mask is a density too"


def test_brushes_are_scaled_in_units():
    cell = field(192).cells[0]
    dot = cell.dots(cell.centre[None], 4.0)
    assert dot.sum() == pytest.approx(1, abs=0.01)
    assert (dot * cell.distance(cell.centre) ** 2).sum() == pytest.approx(2 * 4.0**2, rel=0.1)
    noise = cell.texture(np.random.default_rng(0), 2.0)
    assert abs(noise.mean()) < 0.3 and noise.std() == pytest.approx(1)
