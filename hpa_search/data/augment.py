"""Random changes to training images that leave their labels true, made on the device on whole uint8 batches.

The cells of a microscope image have no up and no left, so its eight symmetries (the dihedral group of the square) are
all equally likely images.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Augmentation = Callable[[Tensor, Generator], Tensor]

FLIP_X, FLIP_Y, TRANSPOSE = 1, 2, 4
"""Bits of a symmetry's number, applied in this order; all eight numbers together are the dihedral group."""


def augment(images: Tensor, name: str, generator: Generator) -> Tensor:
    """Return ``images`` (b, c, s, s) changed by the augmentation ``name``, of the same shape, type and device.

    ``generator`` is one of the CPU, so that a trial draws the same symmetries on every device.
    """
    return AUGMENTATIONS[name](images, generator)


def transform(image: Tensor, symmetry: int) -> Tensor:
    """Return ``image`` (..., s, s) under ``symmetry`` 0..7; 0 is the identity."""
    if symmetry & FLIP_X:
        image = image.flip(-1)
    if symmetry & FLIP_Y:
        image = image.flip(-2)
    if symmetry & TRANSPOSE:
        image = image.transpose(-1, -2)
    return image


def _random_symmetry(images: Tensor, generator: Generator, number: int) -> Tensor:
    """Give each image one of the symmetries 0..``number`` - 1.

    Image by image, although it looks slow: no index travels to the device and nothing waits for it, and on a CPU it is
    two to five times as fast as gathering the images of each symmetry or as three `torch.where` over the batch.
    """
    symmetries: list[int] = torch.randint(number, (len(images),), generator=generator).tolist()
    result = torch.empty_like(images)
    for index, symmetry in enumerate(symmetries):
        result[index] = transform(images[index], symmetry)
    return result


def _none(images: Tensor, generator: Generator) -> Tensor:
    return images


def _flips(images: Tensor, generator: Generator) -> Tensor:
    return _random_symmetry(images, generator, number=4)


def _dihedral(images: Tensor, generator: Generator) -> Tensor:
    return _random_symmetry(images, generator, number=8)


AUGMENTATIONS: dict[str, Augmentation] = {"none": _none, "flips": _flips, "dihedral": _dihedral}
