"""The cells of a phantom: positions, outlines, nuclei and landmarks, and brushes to draw in them.

Lengths are in units u = R / 50. R is the mean cell radius of the field in pixels, about 60 px at 512 px. R grows more slowly
than the image. So a small image shows fewer cells, each large enough to distinguish the patterns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

Plane = NDArray[np.float64]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
"""Points (n, 2) as row and column in pixels of a cell's patch."""

_REACH = 1.75
"""Half the side of a cell's patch, in cell radii."""


@dataclass(frozen=True)
class Cell:
    """One cell, on a patch of the field.

    Planes have the patch's shape (h, w). ``radial`` and ``nuclear`` are 0 at the centre and 1 at the outline: of the cell and
    of its nucleus. ``edge`` is the depth below the outline, in u. ``gap`` is the distance to the nearest other cell, in u;
    infinite without one.
    """

    window: tuple[slice, slice]
    unit: float
    radius: float
    angle: float
    centre: Points
    poles: Points
    organizer: Points
    nucleoli: Points
    sister: Points | None
    mitotic: bool
    inside: Mask
    radial: Plane
    nuclear: Plane
    edge: Plane
    gap: Plane

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the patch in pixels."""
        return self.inside.shape[0], self.inside.shape[1]

    @property
    def nucleus(self) -> Plane:
        """1 in the nucleus, falling to 0 over its outline."""
        return _soft(1 - self.nuclear, 0.06) * self.inside

    @property
    def cytoplasm(self) -> Plane:
        """1 in the cell outside the nucleus, falling to 0 over both outlines."""
        return self.body * (1 - self.nucleus)

    @property
    def body(self) -> Plane:
        """1 in the cell, falling to 0 at its outline."""
        return np.clip(self.edge / 3, 0, 1)

    def distance(self, point: Points) -> Plane:
        """Return the distance of each pixel to ``point`` (2,), in u."""
        rows, columns = np.ogrid[: self.shape[0], : self.shape[1]]
        return np.asarray(np.hypot(rows - point[0], columns - point[1]) / self.unit)

    def dots(self, points: Points, sigma: float, weights: NDArray[np.float64] | float = 1.0) -> Plane:
        """Draw ``points`` as Gaussian spots of standard deviation ``sigma`` u.

        The deviation is at least 0.6 px, the microscope's own blur.
        """
        return gaussian_filter(splat(self.shape, points, weights), max(0.6, sigma * self.unit))

    def texture(self, rng: Generator, sigma: float) -> Plane:
        """Return smooth Gaussian noise with grain ``sigma`` u, mean 0 and standard deviation 1."""
        noise = gaussian_filter(rng.standard_normal(self.shape), max(0.5, sigma * self.unit), mode="wrap")
        return noise / max(float(noise.std()), 1e-9)

    def scatter(self, rng: Generator, number: int, density: NDArray[np.floating] | Mask) -> Points:
        """Draw ``number`` points with probability ``density`` a pixel; none if the density is zero everywhere."""
        total = density.sum()
        if total <= 0:
            return np.empty((0, 2))
        flat = rng.choice(density.size, size=number, p=(density / total).ravel())
        return np.stack(np.divmod(flat, self.shape[1]), axis=1) + rng.uniform(-0.5, 0.5, (number, 2))


@dataclass(frozen=True)
class Field:
    """All cells of one image of ``size`` x ``size`` pixels; ``unit`` is u in pixels."""

    size: int
    unit: float
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class _Outline:
    """A cell before it meets its neighbours: polar outlines of the cell and of its nucleus."""

    centre: Points
    radius: float
    angle: float
    mitotic: bool
    stretch: float
    waves: NDArray[np.float64]
    phases: NDArray[np.float64]


def draw_field(size: int, rng: Generator, mitosis: bool, division: bool) -> Field:
    """Draw the cells of an image of ``size`` px; the first lies near the middle.

    With ``mitosis``, the first cell is in mitosis. With ``division``, a bridge joins the first two cells, which are sisters.
    """
    radius = 60 * (size / 512) ** 0.67 * float(rng.uniform(0.88, 1.12))
    centres = _place(size, radius, rng, division)
    outlines = [_outline(centre, radius, rng, mitosis and index == 0) for index, centre in enumerate(centres)]
    owner, radials = _share_ground(size, outlines)
    cells = []
    for index, outline in enumerate(outlines):
        if (owner == index).sum() > 0.1 * radius**2:
            sister = centres[1] if division and index == 0 else None
            cells.append(_finish(index, outline, radius / 50, owner, radials[index], sister, rng))
    return Field(size, radius / 50, tuple(cells))


def splat(shape: tuple[int, int], points: Points, weights: NDArray[np.float64] | float = 1.0) -> Plane:
    """Return a plane of ``shape`` with ``weights`` added at ``points`` (n, 2), each shared by the four nearest pixels."""
    plane = np.zeros(shape[0] * shape[1])
    corner = np.floor(points).astype(np.int64)
    part = points - corner
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = corner[:, 0] + row, corner[:, 1] + column
        share = np.abs(1 - row - part[:, 0]) * np.abs(1 - column - part[:, 1]) * weights
        kept = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
        plane += np.bincount(y[kept] * shape[1] + x[kept], weights=share[kept], minlength=plane.size)
    return plane.reshape(shape)


def walk(rng: Generator, starts: Points, angles: NDArray[np.float64], length: float, turn: float) -> NDArray[np.float64]:
    """Return curves (n, steps, 2) of ``length`` px from ``starts`` (n, 2).

    Each curve's heading turns by ``turn`` rad a px (rms).
    """
    steps = max(2, round(length / 0.7))
    headings = angles[:, None] + np.cumsum(rng.normal(0, turn * 0.7**0.5, (len(starts), steps)), axis=1)
    moves = 0.7 * np.stack([np.sin(headings), np.cos(headings)], axis=-1)
    return np.asarray(starts[:, None, :] + np.cumsum(moves, axis=1))


def _soft(value: Plane, width: float) -> Plane:
    """Step from 0 to 1 where ``value`` crosses 0, over about ``width``."""
    return np.clip(0.5 + value / (2 * width), 0, 1)


def _direction(angle: float) -> Points:
    return np.array([np.sin(angle), np.cos(angle)])


def _place(size: int, radius: float, rng: Generator, division: bool) -> list[Points]:
    """Place cell centres: the first near the middle, most others beside another cell, none on top of one."""
    centres = [size / 2 + rng.uniform(-0.2, 0.2, 2) * size]
    if division:
        centres.append(centres[0] + 2.05 * radius * _direction(rng.uniform(0, 2 * np.pi)))
    wanted = max(2, round(rng.uniform(0.45, 1.0) * (size + radius) ** 2 / (np.pi * radius**2)))
    for _ in range(12 * wanted):
        if len(centres) >= wanted:
            break
        if rng.random() < 0.65:
            beside = centres[rng.integers(len(centres))]
            centre = beside + rng.uniform(1.35, 1.9) * radius * _direction(rng.uniform(0, 2 * np.pi))
        else:
            centre = rng.uniform(-0.5 * radius, size + 0.5 * radius, 2)
        near = 1.6 if division and min(np.hypot(*(centre - c)) for c in centres[:2]) < 1.6 * radius else 1.3
        on_field = (np.abs(centre - size / 2) < size / 2 + 0.6 * radius).all()
        if on_field and min(np.hypot(*(centre - other)) for other in centres) > near * radius:
            centres.append(centre)
    return centres


def _outline(centre: Points, radius: float, rng: Generator, mitotic: bool) -> _Outline:
    waves = rng.normal(0, [0.10, 0.09, 0.06, 0.04], 4) * (0.2 if mitotic else 1.0)
    own = radius * (0.8 if mitotic else float(rng.uniform(0.88, 1.25)))
    stretch = 1.0 if mitotic else float(1 + rng.beta(1.2, 2.5))
    return _Outline(centre, own, float(rng.uniform(0, np.pi)), mitotic, stretch, waves, rng.uniform(0, 2 * np.pi, 4))


def _axes(outline: _Outline, rows: Plane, columns: Plane) -> tuple[Plane, Plane]:
    """Return coordinates along and across the cell's long axis, in px from its centre."""
    y, x = rows - outline.centre[0], columns - outline.centre[1]
    s, c = np.sin(outline.angle), np.cos(outline.angle)
    return y * s + x * c, y * c - x * s


def _window(centre: Points, reach: float, size: int) -> tuple[slice, slice]:
    low = np.clip(np.floor(centre - reach), 0, size - 1).astype(int)
    high = np.clip(np.ceil(centre + reach), 1, size).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def _share_ground(size: int, outlines: list[_Outline]) -> tuple[NDArray[np.int64], list[tuple[tuple[slice, slice], Plane]]]:
    """Give each pixel to the cell in which it lies deepest; -1 outside all cells.

    Returns the owners and each cell's radial plane.
    """
    owner, depth, radials = np.full((size, size), -1), np.ones((size, size)), []
    for index, outline in enumerate(outlines):
        window = _window(outline.centre, _REACH * outline.radius, size)
        rows, columns = np.mgrid[window].astype(float)
        along, across = _axes(outline, rows, columns)
        theta = np.arctan2(across, along)
        ripples = zip(outline.waves, outline.phases, strict=True)
        wobble = 1 + sum(wave * np.cos((k + 2) * theta + phase) for k, (wave, phase) in enumerate(ripples))
        root = np.sqrt(outline.stretch)
        radial = np.hypot(along / root, across * root) / (outline.radius * wobble)
        deeper = radial < depth[window]
        owner[window][deeper] = index
        depth[window][deeper] = radial[deeper]
        radials.append((window, radial))
    return owner, radials


def _finish(
    index: int,
    outline: _Outline,
    unit: float,
    owner: NDArray[np.int64],
    ground: tuple[tuple[slice, slice], Plane],
    sister: Points | None,
    rng: Generator,
) -> Cell:
    """Give the cell its nucleus and landmarks, now that its pixels are known."""
    window, radial = ground
    origin = np.array([window[0].start, window[1].start], dtype=float)
    inside, other = owner[window] == index, (owner[window] >= 0) & (owner[window] != index)
    centre = outline.centre - origin
    rows, columns = np.mgrid[window].astype(float)
    along, across = _axes(outline, rows, columns)
    shift = rng.normal(0, 0.05, 2) * outline.radius * (not outline.mitotic)
    long, wide = (0.55, 0.15) if outline.mitotic else (rng.uniform(0.46, 0.56), rng.uniform(0.36, 0.43))
    nuclear = np.hypot((along - shift[0]) / (long * outline.radius), (across - shift[1]) / (wide * outline.radius))
    across_axis, along_axis = _direction(outline.angle + np.pi / 2), _direction(outline.angle)
    middle = centre + shift[0] * along_axis + shift[1] * across_axis
    pole = 0.5 * outline.radius * across_axis
    return Cell(
        window=window,
        unit=unit,
        radius=outline.radius,
        angle=outline.angle,
        centre=middle,
        poles=np.stack([middle - pole, middle + pole]),
        organizer=middle + _beside_nucleus(rng, outline, long, wide),
        nucleoli=middle + _nucleoli(rng, outline, long, wide),
        sister=None if sister is None else sister - origin,
        mitotic=outline.mitotic,
        inside=inside,
        radial=radial,
        nuclear=nuclear,
        edge=distance_transform_edt(np.pad(inside, 1, mode="edge"))[1:-1, 1:-1] / unit,
        gap=distance_transform_edt(~other) / unit if other.any() else np.full(inside.shape, np.inf),
    )


def _beside_nucleus(rng: Generator, outline: _Outline, long: float, wide: float) -> Points:
    """Draw a place just outside the nucleus, relative to its middle, in px."""
    angle = rng.uniform(0, 2 * np.pi)
    along, across = 1.22 * long * np.cos(angle), 1.22 * wide * np.sin(angle)
    return outline.radius * (along * _direction(outline.angle) + across * _direction(outline.angle + np.pi / 2))


def _nucleoli(rng: Generator, outline: _Outline, long: float, wide: float) -> Points:
    """Draw 2 to 4 places well inside the nucleus, none on top of another; in px relative to its middle."""
    number = int(rng.integers(2, 5))
    angle = rng.uniform(0, 2 * np.pi) + np.arange(number) * 2 * np.pi / number + rng.normal(0, 0.3, number)
    reach = rng.uniform(0.3, 0.65, number)
    along, across = reach * long * np.cos(angle), reach * wide * np.sin(angle)
    axes = np.stack([_direction(outline.angle), _direction(outline.angle + np.pi / 2)])
    return outline.radius * np.stack([along, across], axis=1) @ axes
