"""PNG files to pixels, with the reason where a file cannot be taken."""

import math
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

# What Pillow raises on a PNG file that is damaged, in whichever chunk.
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError, TypeError, OverflowError,
    MemoryError, Image.DecompressionBombError,
)  # fmt: skip
_SAMPLED = 400


def decode_image(files: Sequence[Path], size: int | None) -> tuple[np.ndarray | None, list[str]]:
    """Decode the channels of one image as uint8 (len(files), size, size).

    ``size`` in pixels is what every channel must be; None where no file of the dataset could be read. Returns the
    pixels and no faults, or None and one line for each channel at fault, naming it as "folder/file".
    """
    planes, faults = [], []
    for file in files:
        try:
            planes.append(decode_channel(file, size))
        except ValueError as error:
            faults.append(f"{file.parent.name}/{file.name}: {error}")
    return (None if faults else np.stack(planes)), faults


def decode_channel(file: Path, size: int | None) -> np.ndarray:
    """Decode one square 8-bit grey PNG file as uint8 (size, size).

    Raises ValueError that says what is wrong, without the name of the file: it is missing, no PNG, damaged (every
    chunk is held against its checksum, which decoding alone does not do), not 8-bit grey, not square, or not of
    ``size``.
    """
    try:
        data = file.read_bytes()
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            _check(image, size)
            image.verify()
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            return np.asarray(image)
    except _UnfitError:
        raise
    except FileNotFoundError as error:
        raise ValueError("missing") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError("is no PNG file, or its header is damaged") from error
    except _BROKEN as error:
        raise ValueError(f"is unreadable or cut short ({_reason(error)})") from error


def common_size(files: Sequence[Path]) -> int | None:
    """Return the width in pixels that most of the files have; None if none has a header that can be read.

    Looks at no more than 400 files, evenly spaced; of equals, the one met first.
    """
    sizes: Counter[int] = Counter()
    for file in files[:: max(1, math.ceil(len(files) / _SAMPLED))]:
        try:
            with Image.open(file, formats=["PNG"]) as image:
                sizes[image.width] += 1
        except _BROKEN:
            continue
    return sizes.most_common(1)[0][0] if sizes else None


class _UnfitError(ValueError):
    """The file is a sound PNG, and not what the dataset needs."""


def _check(image: Image.Image, size: int | None) -> None:
    if image.mode != "L":
        raise _UnfitError(f"is of mode '{image.mode}'; expected 8-bit grey, mode 'L'")
    if image.width != image.height:
        raise _UnfitError(f"is {image.width} x {image.height} pixels; the networks take square images")
    if size is not None and image.width != size:
        raise _UnfitError(f"is {image.width} x {image.height} pixels; most of the images are {size} x {size}")


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
