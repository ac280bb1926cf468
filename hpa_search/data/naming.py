"""How images are named: what an Id may be, and which files of a folder are the channels of which image."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpa_search.stains import COLOURS

ENDINGS = (".png",)
"""How the files of a dataset end."""
LONGEST_NAME = 255
"""Bytes of a file name."""

_IMAGE = re.compile(
    rf"(?P<id>.*)_(?P<colour>{'|'.join(COLOURS)})(?P<ending>\.(?:png|jpe?g|tiff?|bmp|gif|webp|jp2|(?:png|tiff?)\.gz))",
    re.IGNORECASE | re.DOTALL,
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def image_file(identifier: str, colour: str) -> str:
    """Return the name of the file of one channel of an image."""
    return f"{identifier}_{colour}.png"


def printable(text: str) -> str:
    r"""Return ``text`` with what no terminal shows as escapes; a byte of a file name that is not UTF-8 as \xe4."""
    return "".join(_escaped(mark) for mark in text)


def _escaped(mark: str) -> str:
    if "\udc80" <= mark <= "\udcff":
        return f"\\x{ord(mark) - 0xDC00:02x}"
    return mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii")


def text_fault(identifier: str) -> str | None:
    """Say why ``identifier`` cannot be written into a table in UTF-8 and shown, or return None."""
    if _SURROGATES.search(identifier):
        return (
            f"Id '{printable(identifier)}' is not UTF-8, so no table can hold it; rename the files, or list others "
            "(names from an older Windows: convmv -f latin1 -t utf-8 --notest)"
        )
    if not identifier.isprintable():
        return f"Id '{printable(identifier)}' has a control mark, which tables and terminals do not show; rename it"
    return None


def id_fault(identifier: str) -> str | None:
    """Say why ``identifier`` cannot be part of a file name and of a table, or return None."""
    if not identifier or identifier != identifier.strip():
        return f"Id '{printable(identifier)}' is empty or has spaces around it"
    if _SURROGATES.search(identifier):
        return text_fault(identifier)
    if identifier.startswith(".") or "/" in identifier or "\\" in identifier or not identifier.isprintable():
        shown = printable(identifier)
        return f"Id '{shown}' cannot be part of a file name; it may hold no '/', no '\\', no control mark and no leading dot"
    if len(image_file(identifier, max(COLOURS, key=len)).encode()) > LONGEST_NAME:
        return f"Id '{identifier[:40]}...' is too long for a file name"
    return None


class Ids:
    """The Ids of one table, each checked and seen once.

    A line of ``faults`` begins with ``where``, such as "train.csv, ", and the line of the table.
    """

    def __init__(self, where: str, faults: list[str]) -> None:
        self.where, self.faults = where, faults
        self.lines: dict[str, int] = {}

    def add(self, identifier: str, line: int) -> bool:
        """Take an Id; returns whether it is well formed and new, and otherwise adds a fault."""
        fault = id_fault(identifier)
        if fault is None and identifier in self.lines:
            fault = f"Id '{identifier}' is already on line {self.lines[identifier]}"
        if fault is not None:
            self.faults.append(f"{self.where}line {line}: {fault}")
            return False
        self.lines[identifier] = line
        return True


@dataclass(frozen=True)
class Channels:
    """The image files of one folder whose names end as one of ``endings``: ``files`` has their names by Id and colour.

    ``unfit`` says, by Id and colour, why a file cannot be taken that a person would take for that channel.
    """

    endings: tuple[str, ...]
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    unfit: dict[tuple[str, str], str] = field(default_factory=dict)

    def images(self) -> list[str]:
        """Return the sorted Ids of the images: those with a channel, or with two that are unfit."""
        count = Counter(identifier for identifier, _ in self.unfit)
        return sorted(self.files.keys() | {identifier for identifier, channels in count.items() if channels > 1})

    def lacking(self, identifier: str) -> Iterator[str]:
        """Yield a line for each channel that an image lacks: what is there in its stead, or that it is missing."""
        here, expected = self.files.get(identifier, {}), " or ".join(self.endings[:2])
        for colour in COLOURS:
            if colour not in here:
                missing = f"{identifier}_{colour}{expected}: missing{self._other_form(identifier)}"
                yield self.unfit.get((identifier, colour), missing)

    def _other_form(self, identifier: str) -> str:
        other = other_form(identifier, self.files)
        return f"; '{other}' is here, with its accents coded in another way (NFC or NFD): rename one of them" if other else ""


def find_channels(folder: Path, endings: tuple[str, ...] = ENDINGS) -> Channels:
    """List the channels that ``folder`` holds of each image. Raises OSError if it cannot be listed.

    A hidden file is never an image: unpacking an archive made on a Mac leaves "._<Id>_red.png" beside each.
    """
    found = Channels(endings)
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (parts := _IMAGE.fullmatch(entry.name)):
                _add(found, entry, parts)
    return found


def other_form(identifier: str, there: Iterable[str]) -> str | None:
    """Return the one of ``there`` that looks as ``identifier`` does but has its accents coded otherwise, as a Mac does."""
    if identifier.isascii():
        return None
    wanted = unicodedata.normalize("NFC", identifier)
    return next((other for other in there if other != identifier and unicodedata.normalize("NFC", other) == wanted), None)


def _add(found: Channels, entry: os.DirEntry[str], parts: re.Match[str]) -> None:
    identifier, colour, ending = parts["id"], parts["colour"].lower(), parts["ending"]
    if fault := _name_fault(parts, found.endings) or _file_fault(entry):
        found.unfit[identifier, colour] = f"{entry.name}: {fault}"
        return
    there = found.files.setdefault(identifier, {})
    if colour not in there or found.endings.index(ending) < found.endings.index(Path(there[colour]).suffix):
        there[colour] = entry.name


def _name_fault(parts: re.Match[str], endings: tuple[str, ...]) -> str:
    colour, ending = parts["colour"].lower(), parts["ending"].lower()
    if ending not in endings:
        return f"ends in {parts['ending']}, not in {' or '.join(endings[:2])}; convert it to 8 bits, as {parts['id']}_{colour}{endings[0]}"
    if (parts["colour"], parts["ending"]) != (colour, ending):
        return f"is not in lower case; rename it to {parts['id']}_{colour}{ending}"
    return ""


def _file_fault(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_file():
            return ""
        if entry.is_dir():
            return "is a folder; a file is expected here"
        return "is a link to nothing" if entry.is_symlink() else "is a pipe or a device; a file is expected here"
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
