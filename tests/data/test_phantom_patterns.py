"""Every pattern can be told from every other by where green lies: measured on fields whose outlines are known."""

from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hpa_search.data.phantom_cells import Field, draw_field
from hpa_search.data.phantom_image import draw_protein
from hpa_search.data.phantom_patterns import PATTERNS
from hpa_search.labels import LABELS, NUM_LABELS

FIELDS = 10
NUCLEAR = [
    LABELS.index(name) for name in ("Nucleoplasm", "Nucleoli", "Nucleoli fibrillar center", "Nuclear speckles", "Nuclear bodies")
]
CYTOPLASMIC = [
    LABELS.index(name)
    for name in ("Endoplasmic reticulum", "Golgi apparatus", "Peroxisomes", "Endosomes", "Lysosomes", "Intermediate filaments")
    + ("Mitochondria", "Cytosol", "Cytoplasmic bodies", "Lipid droplets", "Plasma membrane", "Microtubule ends")
]
NEAR_TWINS = {(9, 10), (18, 19)}


def _features(field: Field, green: np.ndarray) -> dict[str, float]:
    """Where green lies in the cells, and how it is spread over grains."""
    share = green / green.sum()
    planes = {name: np.zeros(green.shape) for name in ("nucleus", "depth", "radial", "organizer", "seam", "nucleoli", "dividing")}
    for cell in field.cells:
        planes["nucleus"][cell.window] += cell.nucleus
        planes["depth"][cell.window] += cell.inside * cell.edge
        planes["radial"][cell.window] += cell.inside * cell.radial
        planes["organizer"][cell.window] += cell.inside * (cell.distance(cell.organizer) < 9)
        planes["seam"][cell.window] += cell.inside * (cell.gap < 5)
        planes["nucleoli"][cell.window] += cell.nucleus * np.min([cell.distance(place) < 5 for place in cell.nucleoli], axis=0)
        planes["dividing"][cell.window] += cell.inside * cell.mitotic
    found = {name: float((share * plane).sum()) for name, plane in planes.items()}
    found["outside"] = float(share[sum_inside(field) == 0].sum())
    found["peaks"] = float(np.log((share**2).sum() * share.size))
    grains = [green] + [gaussian_filter(green, sigma * field.unit) for sigma in (1.5, 3, 6)]
    bands = np.array([(fine - coarse).var() for fine, coarse in zip(grains, grains[1:], strict=False)])
    found.update({f"band {k}": float(value) for k, value in enumerate(np.log(bands / green.var() + 1e-6))})
    gy, gx = np.gradient(gaussian_filter(green, field.unit))
    tensor = [gaussian_filter(product, 3 * field.unit) for product in (gx * gx, gy * gy, gx * gy)]
    strength = tensor[0] + tensor[1]
    found["streaks"] = float(np.hypot(tensor[0] - tensor[1], 2 * tensor[2]).sum() / strength.sum())
    return found


def sum_inside(field: Field) -> np.ndarray:
    total = np.zeros((field.size, field.size))
    for cell in field.cells:
        total[cell.window] += cell.inside
    return total


@pytest.fixture(scope="module")
def measured() -> tuple[list[str], np.ndarray]:
    """Names of the features, and their values (28, fields, features)."""
    values = []
    for label in range(NUM_LABELS):
        rows = []
        for seed in range(FIELDS):
            field = draw_field(192, np.random.default_rng([5, seed]), True, True)
            rows.append(_features(field, draw_protein(field, [label], np.random.default_rng([6, label, seed]))))
        values.append([list(row.values()) for row in rows])
    return list(rows[0]), np.array(values)


def test_there_is_a_pattern_for_each_label():
    assert len(set(PATTERNS)) == len(PATTERNS) == NUM_LABELS


def test_every_two_patterns_differ_beyond_the_spread_between_images(measured):
    names, values = measured
    mean, spread = values.mean(axis=1), values.std(axis=1)
    for first, second in combinations(range(NUM_LABELS), 2):
        gap = np.abs(mean[first] - mean[second]) / np.sqrt((spread[first] ** 2 + spread[second] ** 2) / 2 + 1e-6)
        least = 0.7 if (first, second) in NEAR_TWINS else 1.5
        assert gap.max() > least, f"{LABELS[first]} and {LABELS[second]}: {dict(zip(names, gap.round(2), strict=True))}"


def test_nuclear_patterns_lie_in_the_nucleus_and_cytoplasmic_ones_do_not(measured):
    names, values = measured
    nucleus = values[:, :, names.index("nucleus")].mean(axis=1)
    assert nucleus[NUCLEAR].min() > 0.8, nucleus.round(2)
    assert nucleus[CYTOPLASMIC].max() < 0.25, nucleus.round(2)


@pytest.mark.parametrize(
    ("feature", "label", "above"),
    [
        ("organizer", "Centrosome", 0.9),
        ("organizer", "Microtubule organizing center", 0.8),
        ("dividing", "Mitotic spindle", 0.9),
        ("seam", "Cell junctions", 0.8),
        ("outside", "Cytokinetic bridge", 0.3),
        ("streaks", "Actin filaments", 0.5),
    ],
)
def test_a_pattern_lies_where_its_name_says(measured, feature, label, above):
    names, values = measured
    assert np.median(values[LABELS.index(label), :, names.index(feature)]) > above


def test_patterns_are_never_negative_and_never_empty_in_a_field_with_dividing_cells():
    field = draw_field(96, np.random.default_rng(2), True, True)
    for label, pattern in enumerate(PATTERNS):
        planes = [pattern(cell, np.random.default_rng(0)) for cell in field.cells]
        assert min(plane.min() for plane in planes) >= -1e-12, LABELS[label]
        assert max(plane.max() for plane in planes) > 0, LABELS[label]
