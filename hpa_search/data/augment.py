"""Random changes to training images that leave their labels true.

They run on the device, on whole uint8 batches. A microscope image has no up and no left. So its eight symmetries are equally
likely: the dihedral group of the square.

Each channel measures a stain; the four are not the colours of one picture. So nothing here mixes channels or shifts hue or
saturation. That would move one stain's signal to another. A channel may only become brighter or flatter, as staining and
exposure make it.

To add an augmentation, register one function here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

from hpa_search.registry import Registry

FLIP_X, FLIP_Y, TRANSPOSE = 1, 2, 4
"""Bits of a symmetry's number, applied in this order; the eight numbers are the dihedral group."""

SHIFT = 0.1
"""Largest shift of the strong augmentation along each axis, as a share of the image's side."""

SCALE = 1.25
"""Largest enlargement; the smallest is its inverse."""

TURN = 15.0
"""Largest turn to either side in degrees; the symmetry before it may turn by a multiple of 90."""

GAIN, GAMMA = 1.25, 1.25
"""Largest factor and largest exponent of a channel's brightness 0..1; the smallest are their inverses."""


@dataclass(frozen=True)
class Share:
    """One worker's part of a batch: the images at ``rows``, of ``batch`` in all."""

    rows: slice
    batch: int


class Draws:
    """Draw random numbers for the images of one worker.

    Numbers are drawn for the whole batch, then cut to the worker's rows. So the number of workers does not change an image's
    numbers.
    """

    def __init__(self, generator: Generator, images: Tensor, share: Share | None) -> None:
        share = share or Share(slice(0, len(images)), len(images))
        self._generator, self._batch, self._rows = generator, share.batch, share.rows

    def integers(self, below: int, *shape: int) -> Tensor:
        """Draw whole numbers of ``shape`` for each image, uniformly from 0 to ``below`` - 1."""
        return torch.randint(below, (self._batch, *shape), generator=self._generator)[self._rows]

    def symmetric(self, *shape: int) -> Tensor:
        """Draw numbers of ``shape`` for each image, uniformly from -1..1."""
        return 2 * torch.rand((self._batch, *shape), generator=self._generator)[self._rows] - 1


Augmentation = Callable[[Tensor, Draws], Tensor]

AUGMENTATIONS: Registry[Augmentation] = Registry("augment")


def augment(images: Tensor, name: str, generator: Generator, share: Share | None = None) -> Tensor:
    """Return ``images`` changed by the augmentation ``name``.

    ``images`` are uint8 (b, c, s, s); the result has their shape, type and device. A CPU ``generator`` draws the same changes
    on every device. With ``share``, ``images`` are part of a larger batch. They change as they would within it. Raises
    ValueError for a name that is not registered.
    """
    return AUGMENTATIONS[name](images, Draws(generator, images, share))


def random_crops(images: Tensor, size: int, generator: Generator, share: Share | None = None) -> Tensor:
    """Return a random square of each of ``images`` (b, c, s, s), as (b, c, size, size).

    Each image has its own position; all positions are equally likely. ``generator`` and ``share`` are as in `augment`. Raises
    ValueError if the images are smaller than ``size``.
    """
    places = images.shape[-1] - size + 1
    if places < 1:
        raise ValueError(f"a crop of {size} pixels does not fit into images of {images.shape[-1]}")
    corners = Draws(generator, images, share).integers(places, 2)
    return _crops_at_once(images, corners, size) if images.is_cuda else _crops_one_by_one(images, corners, size)


def _crops_one_by_one(images: Tensor, corners: Tensor, size: int) -> Tensor:
    result = images.new_empty((*images.shape[:2], size, size))
    places: list[tuple[int, int]] = corners.tolist()
    for index, (top, left) in enumerate(places):
        result[index] = images[index, :, top : top + size, left : left + size]
    return result


def _crops_at_once(images: Tensor, corners: Tensor, size: int) -> Tensor:
    """Do the same in a few kernels, whatever the number of images."""
    device = images.device
    top, left = corners.to(device, non_blocking=True).view(-1, 2, 1, 1, 1).unbind(1)
    along = torch.arange(size, device=device)
    image, channel = torch.arange(len(images), device=device), torch.arange(images.shape[1], device=device)
    return images[image.view(-1, 1, 1, 1), channel.view(-1, 1, 1), top + along.view(-1, 1), left + along]


def transform(image: Tensor, symmetry: int) -> Tensor:
    """Return ``image`` (..., s, s) under ``symmetry`` 0..7; 0 is the identity."""
    if symmetry & FLIP_X:
        image = image.flip(-1)
    if symmetry & FLIP_Y:
        image = image.flip(-2)
    if symmetry & TRANSPOSE:
        image = image.transpose(-1, -2)
    return image


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Resample each of ``images`` (b, c, s, s), floating, through its affine map.

    ``maps`` are (b, 2, 3). A map takes a pixel's place (x, y, 1) in the result to its source in the image. Coordinates run
    from -1 to 1, edge to edge. Interpolation is bilinear. Beyond its edges, an image continues as its mirror image. Black
    corners would give the change away.
    """
    grid = affine_grid(maps, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _random_symmetry(images: Tensor, draws: Draws, number: int) -> Tensor:
    """Give each image one of the symmetries 0..``number`` - 1."""
    symmetries = draws.integers(number)
    return _turned_at_once(images, symmetries) if images.is_cuda else _turned_one_by_one(images, symmetries)


def _turned_one_by_one(images: Tensor, symmetries: Tensor) -> Tensor:
    """Return each image under its symmetry. On a CPU, two to five times as fast as all at once."""
    result = torch.empty_like(images)
    numbers: list[int] = symmetries.tolist()
    for index, symmetry in enumerate(numbers):
        result[index] = transform(images[index], symmetry)
    return result


def _turned_at_once(images: Tensor, symmetries: Tensor) -> Tensor:
    """Do the same in six kernels a batch. A GPU would wait for the launches of a few kernels an image."""
    symmetries = symmetries.to(images.device, non_blocking=True).view(-1, 1, 1, 1)
    for bit in (FLIP_X, FLIP_Y, TRANSPOSE):
        images = torch.where((symmetries & bit) > 0, transform(images, bit), images)
    return images


def _random_maps(draws: Draws) -> Tensor:
    """Return random affine maps (b, 2, 3) for `warp`.

    Each is a turn and a scale about the centre, then a shift.
    """
    turn = math.radians(TURN) * draws.symmetric()
    scale = SCALE ** -draws.symmetric()
    shift = 2 * SHIFT * draws.symmetric(2)
    cosine, sine = scale * turn.cos(), scale * turn.sin()
    rows = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1)
    return rows.view(-1, 2, 3)


@AUGMENTATIONS.register("none")
def _none(images: Tensor, draws: Draws) -> Tensor:
    return images


@AUGMENTATIONS.register("flips")
def _flips(images: Tensor, draws: Draws) -> Tensor:
    return _random_symmetry(images, draws, number=4)


@AUGMENTATIONS.register("dihedral")
def _dihedral(images: Tensor, draws: Draws) -> Tensor:
    return _random_symmetry(images, draws, number=8)


@AUGMENTATIONS.register("strong")
def _strong(images: Tensor, draws: Draws) -> Tensor:
    """Apply a symmetry, then a shift, scale and small turn, then change the brightness.

    Each channel becomes gain x brightness^gamma. All channels of an image move together. Brightness lies within 0..1; higher
    values are cut off.
    """
    turned = _random_symmetry(images, draws, number=8)
    maps = _random_maps(draws)
    exponents = torch.stack([draws.symmetric(images.shape[1], 1, 1) for _ in range(2)])
    gain, gamma = torch.tensor([GAIN, GAMMA]).view(2, 1, 1, 1, 1) ** exponents
    moved = warp(turned.float().div_(255), maps.to(images.device, non_blocking=True)).clamp_(0, 1)
    toned = moved.pow_(gamma.to(images.device, non_blocking=True)).mul_(255 * gain.to(images.device, non_blocking=True))
    return toned.round_().clamp_(0, 255).to(torch.uint8)
