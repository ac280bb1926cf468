"""One image of a phantom: cells, stains, microscope."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hpa_search.labels import LABELS
from hpa_search.phantom.cells import Cell, Field, Plane, draw_field
from hpa_search.phantom.patterns import PATTERNS, Pattern, dna, reticulum, tubulin

_BRIDGE, _SPINDLE = LABELS.index("Cytokinetic bridge"), LABELS.index("Mitotic spindle")
_PEAK = 9.0


def draw_image(labels: Sequence[int], size: int, rng: Generator) -> NDArray[np.uint8]:
    """Draw an image that shows the protein at ``labels``, uint8 (4, size, size) in the order of the stains.

    Dividing cells also appear in images without their labels. Exposure, haze, blur and noise do not depend on the labels.
    Neither do the mean and deviation of the green channel. Only the place of the green signal shows the labels.
    """
    field = draw_field(size, rng, _SPINDLE in labels or rng.random() < 0.3, _BRIDGE in labels or rng.random() < 0.3)
    blur = float(rng.uniform(0.1, 0.7))
    red = _scatter(field, tubulin, rng)
    blue = _scatter(field, dna, rng)
    yellow = _scatter(field, reticulum, rng)
    haze = _haze(field, blue, yellow, rng)
    green = draw_protein(field, labels, rng) + haze
    return np.stack([_expose(plane, blur, rng) for plane in (red, green, blue, yellow)])


def draw_protein(field: Field, labels: Sequence[int], rng: Generator) -> Plane:
    """Return the sum of the patterns of ``labels`` (size, size).

    Each pattern has unit deviation times a weight in 0.5..1. Cells express the protein to unequal degrees; in some images,
    some cells hardly express it.
    """
    uneven = rng.uniform(0.1, 0.6)
    levels = np.exp(rng.normal(0, uneven, len(field.cells))).clip(0.15, 3)
    levels[0] = max(levels[0], 1.0)
    total = np.zeros((field.size, field.size))
    for label in labels:
        plane = _scatter(field, PATTERNS[label], rng, levels)
        plane /= max(float(plane.std()), 1e-9)
        total += rng.uniform(0.5, 1) * _PEAK * np.tanh(plane / _PEAK)
    return total


def _scatter(field: Field, pattern: Pattern, rng: Generator, levels: NDArray[np.float64] | None = None) -> Plane:
    """Draw ``pattern`` in every cell of ``field``, at the cell's level."""
    total = np.zeros((field.size, field.size))
    for index, cell in enumerate(field.cells):
        total[cell.window] += pattern(cell, rng) * (_level(cell, rng) if levels is None else levels[index])
    return total


def _level(cell: Cell, rng: Generator) -> float:
    return float(rng.uniform(0.75, 1.25))


def _haze(field: Field, blue: Plane, yellow: Plane, rng: Generator) -> Plane:
    """Return the antibody's background stain: faint cell bodies and nuclei, out of focus."""
    bodies = np.zeros((field.size, field.size))
    for cell in field.cells:
        bodies[cell.window] += cell.body
    mix = rng.dirichlet([1, 1, 1])
    haze = sum(w * p / max(float(p.std()), 1e-9) for w, p in zip(mix, (bodies, blue, yellow), strict=True))
    return rng.uniform(0.05, 0.5) * gaussian_filter(haze, 4 * field.unit)


def _expose(plane: Plane, blur: float, rng: Generator) -> NDArray[np.uint8]:
    """Take the picture, uint8: blur (px), shot and read noise, then gain and offset.

    Gain and offset give it a random mean and deviation.
    """
    plane = gaussian_filter(plane, blur)
    plane = plane / max(float(plane.std()), 1e-9)
    plane = plane + rng.normal(size=plane.shape) * np.sqrt(rng.uniform(0.0, 0.05) * plane + rng.uniform(0.0, 0.15) ** 2)
    deviation = np.exp(rng.uniform(np.log(11), np.log(42)))
    mean = deviation * rng.uniform(0.45, 0.85)
    return _at(plane, float(mean), float(deviation))


def _at(plane: Plane, mean: float, deviation: float) -> NDArray[np.uint8]:
    """Scale and shift ``plane`` until, cut to 0..255, it nearly has the given mean and deviation."""
    plane = (plane - plane.mean()) / max(float(plane.std()), 1e-9)
    gain, offset = deviation, mean
    for _ in range(6):
        shown = np.clip(gain * plane + offset, 0, 255)
        gain *= float(np.clip(deviation / max(float(shown.std()), 1e-9), 0.5, 2))
        offset += mean - float(shown.mean())
    return np.round(np.clip(gain * plane + offset, 0, 255)).astype(np.uint8)
