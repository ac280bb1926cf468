"""The input stage: it selects, mixes and normalises the stains of an image."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from hpa_search.errors import nearest
from hpa_search.models.heads import full_precision
from hpa_search.rounding import settled
from hpa_search.stains import COLOURS, LETTERS, NUM_STAINS

SMALLEST_STD = 1e-3
"""The least standard deviation to divide by, in 0..1 units: an empty stain is not amplified further."""

MOST_ROWS = 16

Matrix = tuple[tuple[float, ...], ...]

MIXES: dict[str, Matrix] = {
    "mix_a": ((0.5, 0, 0, 0.5), (0, 0.5, 0, 0.5), (0, 0, 1, 0)),
    "mix_b": ((0.5, 0, 0.5, 0), (0, 0, 0.5, 0.5), (0, 1, 0, 0)),
}
"""S2's two mixes of red, green, blue, yellow to three channels: that of the kernel it started from, and its own."""


@dataclass(frozen=True)
class Channels:
    """The channels that the network sees: a row of four shares (red, green, blue, yellow) for each.

    With ``learned`` the matrix is the starting point of training.
    """

    matrix: Matrix
    learned: bool = False

    def __len__(self) -> int:
        """Return the number of channels that the network sees."""
        return len(self.matrix)

    @property
    def selection(self) -> tuple[int, ...] | None:
        """The index of the stain of each channel, or None if any channel is a mixture."""
        plain = not self.learned and all(sorted(row) == [0, 0, 0, 1] for row in self.matrix)
        return tuple(row.index(1) for row in self.matrix) if plain else None


def parse_channels(text: str) -> Channels:
    """Return the channels of ``text``, a value of `TrialConfig.channels`.

    - Letters of r, g, b, y without repeats.
    - A name of `MIXES`.
    - "learned", a 1x1 convolution from four to three channels that starts at mix_b.
    - A matrix. Rows are separated by ';', and have four numbers each.

    Raises ValueError for anything else.
    """
    if text == "learned":
        return Channels(MIXES["mix_b"], learned=True)
    if text in MIXES:
        return Channels(MIXES[text])
    if text and set(text) <= set(LETTERS):
        return Channels(_selected(text))
    if re.search(r"[\d;]", text):
        return Channels(_matrix(text))
    raise ValueError(
        f"expected letters of {LETTERS}, {', '.join(MIXES)}, learned, or rows of four numbers separated by ';' "
        f"(given: {text!r}){nearest(text, [*MIXES, 'learned'])}"
    )


def _selected(letters: str) -> Matrix:
    repeated = [letter for letter in LETTERS if letters.count(letter) > 1]
    if repeated:
        raise ValueError(f"'{repeated[0]}' is repeated (given: {letters!r})")
    return tuple(tuple(float(stain == letter) for stain in LETTERS) for letter in letters)


def _matrix(text: str) -> Matrix:
    rows = [_numbers(row, f"row {number}") for number, row in enumerate(text.split(";"), start=1)]
    if len(rows) > MOST_ROWS:
        raise ValueError(f"at most {MOST_ROWS} rows make sense (given: {len(rows)})")
    for number, row in enumerate(rows, start=1):
        if len(row) != NUM_STAINS:
            raise ValueError(f"row {number} needs a number for each of {', '.join(COLOURS)} (given: {len(row)})")
        if not any(row):
            raise ValueError(f"row {number} is all zeros, so its channel would be empty; leave the row out")
    return tuple(rows)


def _numbers(text: str, where: str) -> tuple[float, ...]:
    """Return the numbers in ``text``, separated by blanks or commas. Raises ValueError, prefixed by ``where``, for other text."""
    words = text.replace(",", " ").split()
    try:
        values = tuple(map(float, words))
    except ValueError:
        raise ValueError(f"{where}: expected numbers (given: {text.strip()!r})") from None
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{where}: expected finite numbers (given: {text.strip()!r})")
    return values


@dataclass(frozen=True)
class Normalisation:
    """The source of mean and standard deviation: the search's training rows, each image itself, or ``constants``.

    ``constants`` are four means and four standard deviations, in 0..1 units.
    """

    source: Literal["dataset", "image", "constants"]
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def parse_normalisation(text: str) -> Normalisation:
    """Return the normalisation of ``text``, a value of `TrialConfig.normalise`.

    It is "dataset", "image", or "MEAN / STD" in 0..1 units. MEAN and STD have one number for all stains, or one for each.
    Raises ValueError for anything else.
    """
    if text == "dataset":
        return Normalisation("dataset")
    if text == "image":
        return Normalisation("image")
    means, slash, stds = text.partition("/")
    if not slash:
        raise ValueError(
            f"expected dataset, image, or 'MEAN / STD' in units of 0..1 (given: {text!r}){nearest(text, ['dataset', 'image'])}"
        )
    return Normalisation("constants", (_constants(means, "mean"), _constants(stds, "std")))


def _constants(text: str, what: str) -> tuple[float, ...]:
    values = tuple(settled(value, SMALLEST_STD if what == "std" else 0.0, 1.0) for value in _numbers(text, what))
    if len(values) not in (1, NUM_STAINS):
        raise ValueError(f"the {what} needs one number, or one for each stain (given: {len(values)})")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"the {what} is in units of 0..1, not 0..255 (given: {text.strip()!r})")
    if what == "std" and min(values) < SMALLEST_STD:
        raise ValueError(f"the std has to be at least {SMALLEST_STD:g} (given: {text.strip()!r})")
    return values * (NUM_STAINS // len(values))


class InputStage(nn.Module):
    """Normalises stains, (x - mean) / std, and then selects or mixes them.

    Images (b, 4, h, w), uint8 0..255 or float 0..1 -> (b, c, h, w), float32. `parse_channels` explains ``channels``, and
    `parse_normalisation` explains ``normalise``. ``mean`` and ``std`` are those of the training rows: 4 entries each, in 0..1
    units. The constants in use are buffers, stored with the weights; with "image" there are none.
    Raises ValueError for texts that cannot be parsed, another number of entries, or a negative std.
    """

    index: Tensor
    matrix: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, channels: str, normalise: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        wanted, units = parse_channels(channels), parse_normalisation(normalise)
        mean, std = units.constants or _checked(mean, std)
        self.channels = len(wanted)
        """The number of channels that the network sees."""
        self.learned = nn.Conv2d(NUM_STAINS, len(wanted), kernel_size=1, bias=False) if wanted.learned else None
        kept = wanted.selection or tuple(range(NUM_STAINS))
        self.selects, self.mixes = kept != tuple(range(NUM_STAINS)), wanted.selection is None
        self.register_buffer("index", torch.tensor(kept), persistent=False)
        self.register_buffer("matrix", torch.tensor(wanted.matrix).view(-1, NUM_STAINS, 1, 1), persistent=False)
        if self.learned is not None:
            with torch.no_grad():
                self.learned.weight.copy_(self.matrix)
        self.by_image = units.source == "image"
        if not self.by_image:
            self.register_buffer("mean", _per_channel([float(mean[i]) for i in kept]))
            self.register_buffer("std", _per_channel([max(float(std[i]), SMALLEST_STD) for i in kept]))

    def forward(self, images: Tensor) -> Tensor:
        """Return the channels (b, c, h, w) of ``images`` (b, 4, h, w)."""
        if self.selects:
            images = images.index_select(1, self.index)
        unit = 1 / 255 if images.dtype == torch.uint8 else 1.0
        stains = _own_units(images.float() * unit) if self.by_image else images.float() * (unit / self.std) - self.mean / self.std
        if not self.mixes:
            return stains
        # In bfloat16 a mixture would lose part of each stain's eight bits.
        with full_precision(images.device):
            return conv2d(stains, self.matrix) if self.learned is None else self.learned(stains)


def _own_units(stains: Tensor) -> Tensor:
    """Return ``stains`` (b, c, h, w), each normalised by its own mean and standard deviation."""
    std, mean = torch.std_mean(stains, dim=(2, 3), correction=0, keepdim=True)
    return (stains - mean) / std.clamp_min(SMALLEST_STD)


def _checked(mean: Sequence[float], std: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    if len(mean) != NUM_STAINS or len(std) != NUM_STAINS:
        raise ValueError(f"mean and std need {NUM_STAINS} entries ({', '.join(COLOURS)}), got {len(mean)} and {len(std)}")
    if min(std) < 0:
        raise ValueError(f"std has a negative entry: {list(std)}")
    return mean, std


def _per_channel(values: list[float]) -> Tensor:
    """Return ``values`` as float32 of shape (1, c, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
