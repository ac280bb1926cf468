"""The kind of a file by its first bytes, for the message of a reader that cannot take it."""

import re
from pathlib import Path
from typing import NamedTuple

START = 4096
"""Bytes that are read."""
SHOWN = 60
"""Characters of a text that a message shows."""

AGAIN = "download or copy it again"
UNPACK = "unpack it and give the file in it"


class Kind(NamedTuple):
    """What a file is ("a Git LFS pointer"), and what to do about it. The remedy is empty if it depends on the reader."""

    what: str
    remedy: str = ""


_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\x03\x04", Kind("a zip archive", UNPACK)),
    (b"PK\x05\x06", Kind("an empty zip archive", AGAIN)),
    (b"\x1f\x8b", Kind("a gzip archive", UNPACK)),
    (b"\xfd7zXZ\x00", Kind("an xz archive", UNPACK)),
    (b"BZh91AY&SY", Kind("a bzip2 archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", UNPACK)),
    (b"\x28\xb5\x2f\xfd", Kind("a Zstandard archive", UNPACK)),
    (b"Rar!\x1a\x07", Kind("a RAR archive", UNPACK)),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, as Keras and MATLAB write them")),
    (b"\x93NUMPY", Kind("a NumPy .npy file")),
    (b"PAR1\x15", Kind("a Parquet file")),
    (b"\x89PNG\r\n\x1a\n", Kind("a PNG image")),
    (b"\xff\xd8\xff", Kind("a JPEG image")),
    (b"II*\x00", Kind("a TIFF image")),
    (b"MM\x00*", Kind("a TIFF image")),
    (b"II+\x00", Kind("a TIFF image")),
    (b"GIF87a", Kind("a GIF image")),
    (b"GIF89a", Kind("a GIF image")),
    (b"\x00\x00\x00\x0cjP", Kind("a JPEG 2000 image")),
    (b"%PDF-", Kind("a PDF document")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("an old Office document, as .xls is")),
    (b"\xff\xfe", Kind("text in UTF-16", "save it as UTF-8")),
    (b"\xfe\xff", Kind("text in UTF-16", "save it as UTF-8")),
)
_TAR = slice(257, 262)
_MARKUP = re.compile(rb"<[!?/a-z]")
_TITLE = re.compile(rb"<title[^>]*>\s*(.*?)\s*</title>", re.DOTALL | re.IGNORECASE)


def kind_of(path: Path) -> Kind | None:
    """Return the kind of the file ``path``, None if its first bytes do not show it. Raises OSError."""
    with path.open("rb") as file:
        return kind_of_bytes(file.read(START))


def kind_of_bytes(start: bytes) -> Kind | None:
    """Return the kind of a file that begins with ``start``: its first START bytes, or all of it."""
    return foreign(start) or _text(start)


def foreign(start: bytes) -> Kind | None:
    """Return the kind of a file as `kind_of_bytes` does, but None for plain text and JSON."""
    if not start:
        return Kind("empty", AGAIN)
    if not any(start) and len(start) > 8:
        return Kind("made of zero bytes, as an interrupted download leaves", AGAIN)
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    if start[_TAR] == b"ustar":
        return Kind("a tar archive", UNPACK)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return Kind("a WebP image")
    if start.startswith(b"BM") and start[6:10] == bytes(4):
        return Kind("a BMP image")
    return _pointer(start) or _markup(start)


def shown(start: bytes) -> str:
    """Return the first line of a text, printable and cut short."""
    line = (start.decode("utf-8", "replace").strip().splitlines() or [""])[0]
    printable = "".join(mark if mark.isprintable() else " " for mark in line)
    return printable if len(printable) <= SHOWN else f"{printable[:SHOWN]}..."


def _pointer(start: bytes) -> Kind | None:
    if start.startswith(b"version https://git-lfs"):
        return Kind(
            "a Git LFS pointer (it begins with 'version https://git-lfs...'), which stands for the file itself",
            "run `git lfs pull` in the repository that it is from",
        )
    if b"/annex/objects/" in start[:512] and start[:1] in b"/.":
        return Kind(
            "a git-annex pointer, which stands for the file itself", "run `git annex get` in the repository that it is from"
        )
    return None


def _markup(start: bytes) -> Kind | None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text[:512].lower()
    if not _MARKUP.match(lower):
        return None
    title = _TITLE.search(text)
    if title or any(mark in lower for mark in (b"<html", b"<!doctype html", b"<head", b"<body", b"<script")):
        named = f" ('{shown(title[1])}')" if title else ""
        return Kind(f"a web page{named} that a download left in its place", "download the file itself")
    return Kind(f"XML text ('{shown(text)}')", "if it comes from a download, the server refused it: download the file itself")


def _text(start: bytes) -> Kind | None:
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(start) < START or error.start < START - 4:
            return None
        text = start[: error.start].decode("utf-8")
    if not all(mark.isprintable() or mark.isspace() for mark in text):
        return None
    what = "JSON text" if text.lstrip()[:1] in ("{", "[") else "text"
    return Kind(f"{what} that begins with '{shown(start)}'", "if it comes from a download, download the file itself")
