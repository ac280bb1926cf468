"""Each pattern lies where its name says, and none looks like another."""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hpa_search.labels import LABELS, NUM_LABELS
from hpa_search.phantom.cells import draw_field
from hpa_search.phantom.patterns import PATTERNS, dna, reticulum, tubulin

SIZE, FIELDS = 96, 12
NUCLEAR = ("Nucleoplasm", "Nucleoli", "Nucleoli fibrillar center", "Nuclear speckles", "Nuclear bodies")
CYTOPLASMIC = (
    "Endoplasmic reticulum",
    "Golgi apparatus",
    "Peroxisomes",
    "Endosomes",
    "Lysosomes",
    "Intermediate filaments",
    "Focal adhesion sites",
    "Microtubule ends",
    "Centrosome",
    "Lipid droplets",
    "Plasma membrane",
    "Cell junctions",
    "Mitochondria",
    "Cytoplasmic bodies",
)
AT_THE_EDGE = ("Microtubule ends", "Plasma membrane", "Cell junctions")
BESIDE_THE_NUCLEUS = ("Microtubule organizing center", "Centrosome", "Aggresome")
PLACES = ("nucleus", "edge", "organizer", "neighbour")


@cache
def fields():
    return [draw_field(SIZE, np.random.default_rng([1, index]), mitosis=True, division=True) for index in range(FIELDS)]


def describe(pattern, field, rng):
    """Return the shares of the protein at four places, then the relative deviation and what smoothing leaves of it."""
    plane, shares = np.zeros((SIZE, SIZE)), np.zeros(len(PLACES))
    for cell in field.cells:
        drawn = pattern(cell, rng)
        plane[cell.window] += drawn
        places = (cell.nucleus, cell.edge < 6, cell.distance(cell.organizer) < 8, cell.gap < 6)
        shares += [float((drawn * place).sum()) for place in places]
    even = plane / plane.mean()
    scales = np.array([even.std()] + [gaussian_filter(even, grain * field.unit).std() for grain in (1.5, 3, 6, 12)])
    return np.concatenate([shares / plane.sum(), np.log(scales[:1]), np.log(scales[1:] / scales[:-1])])


@cache
def features(seed=2):
    """Return what `describe` finds of each pattern in each field, (28, fields, 9)."""
    streams = np.random.default_rng(seed).spawn(NUM_LABELS * FIELDS)
    found = [describe(pattern, field, streams.pop()) for pattern in PATTERNS for field in fields()]
    return np.array(found).reshape(NUM_LABELS, FIELDS, -1)


def distances(first, second):
    """Return between each two classes the largest difference of a feature in units of its spread within a class."""
    difference = np.abs(first.mean(axis=1)[:, None] - second.mean(axis=1)[None])
    within = np.sqrt((first.var(axis=1)[:, None] + second.var(axis=1)[None]) / 2 + 1e-6)
    return (difference / within).max(axis=-1)


def share(label, place):
    return features()[LABELS.index(label), :, PLACES.index(place)].mean()


def test_there_is_a_pattern_for_each_label():
    assert len(PATTERNS) == len(set(PATTERNS)) == NUM_LABELS
    assert (PATTERNS[LABELS.index("Golgi apparatus")].__name__, PATTERNS[-1].__name__) == ("golgi", "rods_and_rings")


@pytest.mark.parametrize("label", range(NUM_LABELS), ids=LABELS)
def test_a_pattern_is_a_plane_on_its_cell_and_repeats_from_its_seed(label):
    empty = True
    for cell in fields()[0].cells:
        first, again = (PATTERNS[label](cell, np.random.default_rng(9)) for _ in range(2))
        assert first.shape == cell.shape and np.isfinite(first).all() and first.min() >= 0
        assert (first == again).all()
        empty = empty and first.sum() == 0
    assert not empty


def test_no_two_patterns_look_alike():
    apart = distances(features(), features())
    np.fill_diagonal(apart, np.inf)
    low = np.unravel_index(apart.argmin(), apart.shape)
    assert apart.min() > 1.8, f"{LABELS[low[0]]} and {LABELS[low[1]]} are {apart.min():.2f} deviations apart"
    assert distances(features(), features(seed=3)).diagonal().max() < 1.8, "a pattern drawn anew looks like itself"


def test_nuclear_patterns_lie_in_the_nucleus_and_the_others_do_not():
    inside, outside = ([share(label, "nucleus") for label in labels] for labels in (NUCLEAR, CYTOPLASMIC))
    assert min(inside) > 0.9 and max(outside) < 0.12
    assert 0.4 < share("Nuclear membrane", "nucleus") < 0.8, "it lies on the outline"


@pytest.mark.parametrize("label", AT_THE_EDGE)
def test_patterns_of_the_edge(label):
    assert share(label, "edge") > 0.5 > 2 * share("Cytosol", "edge")


@pytest.mark.parametrize("label", BESIDE_THE_NUCLEUS)
def test_patterns_beside_the_nucleus(label):
    assert share(label, "organizer") > 0.7 > 0.2 > share("Mitochondria", "organizer")


def test_junctions_lie_where_cells_touch_and_membranes_all_around():
    assert share("Cell junctions", "neighbour") > 0.9
    assert 0.1 < share("Plasma membrane", "neighbour") < 0.7


def test_the_bridge_lies_between_the_sisters_and_outside_both():
    for field in fields():
        (first, *_), bridge = field.cells, PATTERNS[LABELS.index("Cytokinetic bridge")](field.cells[0], np.random.default_rng(0))
        rows, columns = np.indices(bridge.shape)
        middle = np.array([(bridge * rows).sum(), (bridge * columns).sum()]) / bridge.sum()
        assert np.hypot(*(middle - (first.centre + first.sister) / 2)) < 0.35 * first.radius
        assert (bridge * first.nucleus).sum() < 0.01 * bridge.sum()


def test_stress_fibres_run_one_way_and_a_net_does_not():
    """Coherence of the structure tensor, Bigun and Granlund 1987: 1 where all gradients are parallel."""

    def coherence(label):
        plane = PATTERNS[LABELS.index(label)](cell, np.random.default_rng(0))
        gy, gx = np.gradient(gaussian_filter(plane, cell.unit))
        yy, xx, xy = (gaussian_filter(product, 3 * cell.unit) for product in (gy * gy, gx * gx, gx * gy))
        return np.hypot(xx - yy, 2 * xy).sum() / (xx + yy).sum()

    for field in fields():
        cell = field.cells[-1]
        assert coherence("Actin filaments") > coherence("Endoplasmic reticulum")


def test_division_shows_in_dividing_cells_alone():
    for label, first_alone in (("Mitotic spindle", True), ("Cytokinetic bridge", True), ("Mitochondria", False)):
        sums = [PATTERNS[LABELS.index(label)](cell, np.random.default_rng(0)).sum() for cell in fields()[0].cells]
        assert sums[0] > 0
        assert (sum(sums[1:]) == 0) == first_alone


def test_references_lie_where_the_stains_go():
    def nuclear_share(pattern):
        return np.mean([describe(pattern, field, np.random.default_rng(0))[0] for field in fields()[:4]])

    assert nuclear_share(dna) > 0.9
    assert nuclear_share(reticulum) < 0.1
    assert nuclear_share(tubulin) < 0.3
