"""Decode image files to pixels, or say why a file is refused.

Datasets and external images share this code.
"""

import math
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from hpa_search.kinds import START, kind_of_bytes

# What Pillow raises on a damaged file; it depends on the damaged chunk.
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError, TypeError, OverflowError,
    MemoryError, Image.DecompressionBombError,
)  # fmt: skip
_SAMPLED = 400
"""Most headers that `common_size` reads."""
_BIT_DEPTH = 24
"""Offset in a PNG file of the byte that holds the bits of one value."""
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
"""The marks of a JPEG file before and after the pixels; neither occurs among the pixels."""

Decoder = Callable[[Path, int | None], np.ndarray]


@dataclass(frozen=True)
class _Wanted:
    """The ``formats`` and Pillow ``modes`` that a reader accepts, and ``words`` for messages."""

    formats: tuple[str, ...]
    modes: frozenset[str]
    words: str


_GREY = _Wanted(("PNG",), frozenset({"L"}), "8-bit grey, mode 'L'")
_STAIN = _Wanted(
    ("PNG", "JPEG"), frozenset({"L", "LA", "P", "PA", "RGB", "RGBA"}), "8-bit grey, mode 'L', or 8-bit in the stain's own colour"
)


def decode_image(files: Sequence[Path], size: int | None, decode: Decoder | None = None) -> tuple[np.ndarray | None, list[str]]:
    """Decode the channels of one image as uint8 (len(files), size, size).

    Every channel must have ``size`` pixels a side. ``size`` is None if no header of the dataset could be read. ``decode``
    reads one channel, by default `decode_channel`. Returns the pixels and no faults, or None and one line for each faulty
    channel. A line begins with "folder/file".
    """
    planes, faults = [], []
    for file in files:
        try:
            planes.append((decode or decode_channel)(file, size))
        except ValueError as error:
            faults.append(f"{file.parent.name}/{file.name}: {error}")
    return (None if faults else np.stack(planes)), faults


def decode_channel(file: Path, size: int | None) -> np.ndarray:
    """Decode one square 8-bit grey PNG file as uint8 (size, size).

    Raises ValueError that says what is wrong, without the file's name. The file is missing, not PNG, damaged or animated. Or
    it is not 8-bit grey, not square, or not of ``size``. Damage shows in the chunks' checksums, which decoding alone ignores.
    """
    return _decoded(file, _GREY, size)


def decode_stain(file: Path) -> np.ndarray:
    """Decode one square PNG or JPEG file as uint8 (s, s).

    The file is 8-bit grey, or 8-bit in the stain's own colour. The result is the brightest channel of each pixel. Raises
    ValueError as `decode_channel` does, and for a JPEG file without its end.
    """
    pixels = _decoded(file, _STAIN, None)
    return pixels if pixels.ndim == 2 else pixels.max(axis=2)


def _decoded(file: Path, wanted: _Wanted, size: int | None) -> np.ndarray:
    """Return the pixels of a file that fits ``wanted``.

    They are uint8 (h, w) if the file is grey, else (h, w, 3).
    """
    try:
        data = file.read_bytes()
        with Image.open(BytesIO(data), formats=wanted.formats) as image:
            image.verify()
            _check(image, data, wanted, size)
        # Pillow cannot decode an image after `verify`, so it is opened again.
        with Image.open(BytesIO(data), formats=wanted.formats) as image:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except _UnfitError:
        raise
    except FileNotFoundError as error:
        raise ValueError("missing (a broken link)" if file.is_symlink() else "missing") from error
    except IsADirectoryError as error:
        raise ValueError("is unreadable: it is a folder") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(_no_image(data, wanted)) from error
    except _BROKEN as error:
        raise ValueError(f"is unreadable or cut short ({_reason(error)})") from error


def common_size(files: Sequence[Path]) -> int | None:
    """Return the most frequent width of ``files`` in pixels.

    Returns None if no header can be read. Reads the headers of at most 400 files, evenly spaced. Of equally frequent widths,
    the first seen wins.
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
    """The file is a sound image, but not of the wanted kind."""


def _check(image: Image.Image, data: bytes, wanted: _Wanted, size: int | None) -> None:
    deep = image.format == "PNG" and data[_BIT_DEPTH] == 16
    if image.mode not in wanted.modes or deep:
        bits = " with 16 bits a value" if deep and "16" not in image.mode else ""
        scale = ", all images by one factor" if deep or image.mode[0] in "IF" else ""
        raise _UnfitError(f"is of mode '{image.mode}'{bits}; expected {wanted.words}; convert it to 8-bit grey{scale}")
    if getattr(image, "is_animated", False):
        raise _UnfitError(f"holds {getattr(image, 'n_frames', 'several')} pictures; expected one")
    if image.format != "PNG" and data.find(_END, data.rfind(_SCAN)) < 0:
        raise EOFError("the end of the JPEG file is missing")
    if image.width != image.height:
        raise _UnfitError(f"is {image.width} x {image.height} pixels; the networks take square images")
    if size is not None and image.width != size:
        raise _UnfitError(f"is {image.width} x {image.height} pixels; most of the images are {size} x {size}")


def _no_image(data: bytes, wanted: _Wanted) -> str:
    """Say what a file is whose format is none of those ``wanted``."""
    formats = " or ".join(wanted.formats)
    kind = kind_of_bytes(data[:START])
    if kind is None or kind.what in {f"a {name} image" for name in wanted.formats}:
        return f"is not a {formats} file, or its header is damaged"
    return f"is not a {formats} file: it is {kind.what}; {kind.remedy or f'convert it to 8-bit grey {wanted.formats[0]}'}"


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
