"""Draw each stain in one cell: the three reference channels, and the protein at each of the 28 labels.

A pattern takes a cell and a random generator. It returns a plane (h, w) >= 0 on the cell's patch, of any scale. Sizes are in
u (see `hpa_search.phantom.cells`). They follow the atlas's own images and its dictionary of subcellular locations.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hpa_search.phantom.cells import Cell, Plane, Points, walk

Pattern = Callable[[Cell, Generator], Plane]


def dna(cell: Cell, rng: Generator) -> Plane:
    """Draw blue: the nucleus, dark at the nucleoli; a bright plate in mitosis."""
    if cell.mitotic:
        return cell.nucleus * 2.0
    holes = np.clip(cell.dots(cell.nucleoli, 3.5) * 60 * cell.unit**2, 0, 0.5)
    return cell.nucleus * np.clip(1 + 0.15 * cell.texture(rng, 2.5) - holes, 0, None)


def tubulin(cell: Cell, rng: Generator) -> Plane:
    """Draw red: microtubules, or the spindle in mitosis, and the bridge between sisters if there is one."""
    network = _spindle(cell, rng) * 3 if cell.mitotic else microtubules(cell, rng)
    return network + 0.5 * cytokinetic_bridge(cell, rng)


def reticulum(cell: Cell, rng: Generator) -> Plane:
    """Draw yellow: a net that is densest around the nucleus."""
    mesh = 1 - np.abs(cell.texture(rng, 1.8)) * 0.6
    return np.clip(mesh, 0.1, None) * cell.cytoplasm * np.exp(-np.clip(cell.radial, 0, 2) * 1.6)


def nucleoplasm(cell: Cell, rng: Generator) -> Plane:
    """Fill the nucleus evenly, weaker in the nucleoli."""
    holes = np.clip(cell.dots(cell.nucleoli, 3.5) * 60 * cell.unit**2, 0, 0.6)
    return cell.nucleus * np.clip(1 + 0.15 * cell.texture(rng, 1.5) - holes, 0, None)


def nuclear_membrane(cell: Cell, rng: Generator) -> Plane:
    """Draw a thin rim around the nucleus."""
    rim = np.exp(-(((cell.nuclear - 1) * 0.45 * cell.radius / max(1.7 * cell.unit, 0.8)) ** 2))
    return cell.inside * (rim * (1 + 0.15 * cell.texture(rng, 3)) + 0.12 * cell.nucleus).clip(0)


def nucleoli(cell: Cell, rng: Generator) -> Plane:
    """Draw a few large smooth bodies in the nucleus."""
    return cell.nucleus * _plateau(cell.dots(cell.nucleoli, 4.2, rng.uniform(0.7, 1.3, len(cell.nucleoli))))


def fibrillar_center(cell: Cell, rng: Generator) -> Plane:
    """Draw clusters of fine dots inside the nucleoli."""
    number = 6 * len(cell.nucleoli)
    points = np.repeat(cell.nucleoli, 6, axis=0) + rng.normal(0, 2.6 * cell.unit, (number, 2))
    return cell.nucleus * cell.dots(points, 0.9, rng.uniform(0.5, 1, number))


def nuclear_speckles(cell: Cell, rng: Generator) -> Plane:
    """Draw some twenty irregular patches all over the nucleus."""
    return cell.nucleus * (np.clip(cell.texture(rng, 2.1) - 0.7, 0, 1.2) + 0.06)


def nuclear_bodies(cell: Cell, rng: Generator) -> Plane:
    """Draw a few small sharp dots in the nucleus."""
    number = int(rng.integers(3, 9))
    points = cell.scatter(rng, number, (cell.nuclear < 0.85) * cell.inside * 1.0)
    return cell.dots(points, 1.5, rng.uniform(0.6, 1, len(points))) + 0.0006 * cell.nucleus


def golgi(cell: Cell, rng: Generator) -> Plane:
    """Draw a ribbon of stacks on one side of the nucleus."""
    near = np.exp(-((cell.distance(cell.organizer) / 10) ** 2)) * (cell.nuclear > 1.02) * cell.cytoplasm
    starts = cell.scatter(rng, 9, near)
    curves = walk(rng, starts, rng.uniform(0, 2 * np.pi, len(starts)), 11 * cell.unit, 0.25 / cell.unit**0.5)
    return cell.cytoplasm * _plateau(cell.dots(curves.reshape(-1, 2), 1.5), 2.5)


def peroxisomes(cell: Cell, rng: Generator) -> Plane:
    """Draw very many fine dots, evenly in the cytoplasm."""
    return _granules(cell, rng, 70, 1.0, cell.cytoplasm)


def endosomes(cell: Cell, rng: Generator) -> Plane:
    """Draw a few dozen dots of mixed size, denser towards the nucleus."""
    return _granules(cell, rng, 26, 1.7, cell.cytoplasm * np.exp(-cell.radial * 1.8))


def lysosomes(cell: Cell, rng: Generator) -> Plane:
    """Draw dots like endosomes, but larger and closer around the nucleus."""
    return _granules(cell, rng, 20, 2.2, cell.cytoplasm * np.exp(-cell.radial * 3))


def intermediate_filaments(cell: Cell, rng: Generator) -> Plane:
    """Draw long wavy strands wound around the nucleus."""
    points = cell.scatter(rng, 26, cell.cytoplasm * np.exp(-cell.radial * 2.5))
    tangent = np.arctan2(points[:, 1] - cell.centre[1], -(points[:, 0] - cell.centre[0]))
    curves = walk(rng, points, tangent, 36 * cell.unit, 0.2 / cell.unit**0.5)
    return cell.body * (1 - 0.8 * cell.nucleus) * cell.dots(curves.reshape(-1, 2), 1.1)


def actin_filaments(cell: Cell, rng: Generator) -> Plane:
    """Draw straight parallel stress fibres across the whole cell."""
    points = cell.scatter(rng, 13, cell.body)
    direction = cell.angle + rng.normal(0, 0.06, len(points))
    ways = [walk(rng, points, direction + half * np.pi, 38 * cell.unit, 0.004) for half in (0, 1)]
    curves = np.concatenate(ways, axis=1)
    strength = np.repeat(rng.uniform(0.4, 1, len(points)), curves.shape[1])
    return cell.body * cell.dots(curves.reshape(-1, 2), 0.9, strength)


def focal_adhesions(cell: Cell, rng: Generator) -> Plane:
    """Draw short thick streaks at the cell's edge that point to its middle."""
    starts = cell.scatter(rng, 22, cell.inside * (cell.edge < 8) * np.clip(cell.gap - 2, 0.05, 1))
    inwards = np.arctan2(cell.centre[0] - starts[:, 0], cell.centre[1] - starts[:, 1])
    curves = walk(rng, starts, inwards, 8 * cell.unit, 0.01)
    return cell.body * cell.dots(curves.reshape(-1, 2), 1.4)


def microtubules(cell: Cell, rng: Generator) -> Plane:
    """Draw curved fibres that fan out from beside the nucleus to the edge."""
    number = 46
    starts = np.repeat(cell.organizer[None], number, axis=0) + rng.normal(0, 3 * cell.unit, (number, 2))
    angles = np.arange(number) * 2 * np.pi / number + rng.normal(0, 0.1, number)
    curves = walk(rng, starts, angles, 75 * cell.unit, 0.09 / cell.unit**0.5)
    spread = np.tile(np.linspace(0.1, 1, curves.shape[1]), number)
    return cell.body * (1 - 0.7 * cell.nucleus) * cell.dots(curves.reshape(-1, 2), 0.8, spread)


def microtubule_ends(cell: Cell, rng: Generator) -> Plane:
    """Draw fine comets along the cell's rim."""
    starts = cell.scatter(rng, 34, cell.inside * np.exp(-(((cell.edge - 6) / 5) ** 2)))
    outwards = np.arctan2(starts[:, 0] - cell.centre[0], starts[:, 1] - cell.centre[1])
    curves = walk(rng, starts, outwards, 3.5 * cell.unit, 0.02)
    return cell.body * cell.dots(curves.reshape(-1, 2), 0.8)


def cytokinetic_bridge(cell: Cell, rng: Generator) -> Plane:
    """Draw a short thin rod midway between two sister cells; nothing in other cells."""
    if cell.sister is None:
        return np.zeros(cell.shape)
    across = cell.sister - cell.centre
    along = rng.uniform(0.4, 0.6, 120)[:, None]
    offset = 0.1 * np.sin(np.pi * along) * np.array([-across[1], across[0]])
    return cell.dots(cell.centre + along * across + offset, 1.3)


def mitotic_spindle(cell: Cell, rng: Generator) -> Plane:
    """Draw the spindle of a cell in mitosis; nothing in other cells."""
    return _spindle(cell, rng) if cell.mitotic else np.zeros(cell.shape)


def organizing_center(cell: Cell, rng: Generator) -> Plane:
    """Draw a dot beside the nucleus in a faint star."""
    angles = rng.uniform(0, 2 * np.pi, 14)
    rays = walk(rng, np.repeat(cell.organizer[None], 14, axis=0), angles, 8 * cell.unit, 0.03)
    star = cell.dots(rays.reshape(-1, 2), 1.0) / rays.shape[1]
    return cell.body * (cell.dots(cell.organizer[None], 2.2) + 0.35 * star)


def centrosome(cell: Cell, rng: Generator) -> Plane:
    """Draw one or two sharp dots beside the nucleus."""
    pair = cell.organizer + rng.normal(0, 1.8 * cell.unit, (int(rng.integers(1, 3)), 2))
    return cell.body * cell.dots(pair, 1.6)


def lipid_droplets(cell: Cell, rng: Generator) -> Plane:
    """Draw small circles of mixed size in the cytoplasm, in groups."""
    groups = np.clip(cell.texture(rng, 8), 0, None) * cell.cytoplasm
    return cell.body * _rings(cell, cell.scatter(rng, 16, groups), rng.uniform(2.2, 4.5, 16), 0.7)


def plasma_membrane(cell: Cell, rng: Generator) -> Plane:
    """Draw a thin ruffled line along the whole outline."""
    rim = np.exp(-(((cell.edge - 2) / max(1.8, 0.8 / cell.unit)) ** 2))
    return cell.inside * (rim * np.clip(1 + 0.35 * cell.texture(rng, 2.5), 0, None) + 0.05 * cell.body)


def cell_junctions(cell: Cell, rng: Generator) -> Plane:
    """Draw a thick line where the cell touches another."""
    seam = np.exp(-(((cell.gap - 1) / max(2.4, 1 / cell.unit)) ** 2))
    return seam * np.clip(1 + 0.3 * cell.texture(rng, 2), 0, None) * cell.inside


def mitochondria(cell: Cell, rng: Generator) -> Plane:
    """Draw many short worms around the nucleus."""
    starts = cell.scatter(rng, 45, cell.cytoplasm * np.exp(-cell.radial * 1.5))
    curves = walk(rng, starts, rng.uniform(0, 2 * np.pi, len(starts)), 9 * cell.unit, 0.3 / cell.unit**0.5)
    return cell.cytoplasm * cell.dots(curves.reshape(-1, 2), 1.2)


def aggresome(cell: Cell, rng: Generator) -> Plane:
    """Draw one large lump beside the nucleus."""
    lobes = cell.organizer + rng.normal(0, 1.5 * cell.unit, (4, 2))
    return cell.body * _plateau(cell.dots(lobes, 3.2))


def cytosol(cell: Cell, rng: Generator) -> Plane:
    """Fill the cytoplasm evenly, thinner towards the edge, little in the nucleus."""
    thickness = np.clip(cell.edge / 14, 0.25, 1)
    return cell.body * thickness * (1 - 0.75 * cell.nucleus) * np.clip(1 + 0.12 * cell.texture(rng, 1.5), 0, None)


def cytoplasmic_bodies(cell: Cell, rng: Generator) -> Plane:
    """Draw a handful of bright round dots in the cytoplasm."""
    points = cell.scatter(rng, int(rng.integers(4, 10)), cell.cytoplasm * (cell.nuclear > 1.15))
    return cell.body * _plateau(cell.dots(points, 2.0), 1.5)


def rods_and_rings(cell: Cell, rng: Generator) -> Plane:
    """Draw one or two straight rods and a ring."""
    points = cell.scatter(rng, 3, cell.cytoplasm * (cell.edge > 6))
    rods = walk(rng, points[1:], rng.uniform(0, 2 * np.pi, len(points[1:])), 15 * cell.unit, 0.005)
    rods_drawn = cell.dots(rods.reshape(-1, 2), 1.1) / max(rods.shape[1], 1) * 6
    return rods_drawn + 4 * _rings(cell, points[:1], np.array([5.0]), 1.0)


def _plateau(plane: Plane, steep: float = 2.0) -> Plane:
    """Flatten the tops of soft spots into bodies with an edge."""
    top = plane.max()
    return np.clip(plane * steep / top, 0, 1) if top > 0 else plane


def _granules(cell: Cell, rng: Generator, number: int, sigma: float, density: Plane) -> Plane:
    """Draw dots of mixed brightness, half of them a third larger, at ``density``."""
    points = cell.scatter(rng, round(number * rng.uniform(0.7, 1.3)), density)
    weights = rng.uniform(0.3, 1, len(points))
    half = len(points) // 2
    return cell.dots(points[:half], sigma, weights[:half]) + 1.6 * cell.dots(points[half:], 1.35 * sigma, weights[half:])


def _rings(cell: Cell, centres: Points, radii: NDArray[np.float64], sigma: float) -> Plane:
    """Draw circles of ``radii`` u."""
    turn = np.arange(24) * 2 * np.pi / 24
    circle = np.stack([np.sin(turn), np.cos(turn)], axis=1)
    points = centres[:, None] + circle * (radii[: len(centres), None, None] * cell.unit)
    return cell.dots(points.reshape(-1, 2), sigma, 1 / 24)


def _spindle(cell: Cell, rng: Generator) -> Plane:
    """Draw bowed fibres from pole to pole."""
    number, t = 30, np.linspace(0, 1, 40)[:, None]
    start, end = cell.poles
    bow = rng.uniform(-0.32, 0.32, number)[:, None, None] * np.array([-(end - start)[1], (end - start)[0]])
    curves = start + t * (end - start) + bow * np.sin(np.pi * t)
    asters = gaussian_filter(cell.dots(cell.poles, 2), 0.5) * number * 2
    return cell.dots(curves.reshape(-1, 2), 0.9) + asters


PATTERNS: tuple[Pattern, ...] = (
    nucleoplasm,
    nuclear_membrane,
    nucleoli,
    fibrillar_center,
    nuclear_speckles,
    nuclear_bodies,
    reticulum,
    golgi,
    peroxisomes,
    endosomes,
    lysosomes,
    intermediate_filaments,
    actin_filaments,
    focal_adhesions,
    microtubules,
    microtubule_ends,
    cytokinetic_bridge,
    mitotic_spindle,
    organizing_center,
    centrosome,
    lipid_droplets,
    plasma_membrane,
    cell_junctions,
    mitochondria,
    aggresome,
    cytosol,
    cytoplasmic_bodies,
    rods_and_rings,
)
"""The protein pattern of each label, in the order of `labels.LABELS`."""
