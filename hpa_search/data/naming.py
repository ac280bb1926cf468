"""Names of images: allowed Ids, and the files that are an image's channels."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpa_search.stains import COLOURS

ENDINGS = (".png",)
"""Endings of a dataset's image files."""
LONGEST_NAME = 255
"""Most bytes of a file name."""

_IMAGE = re.compile(
    rf"(?P<id>.*)_(?P<colour>{'|'.join(COLOURS)})(?P<ending>\.(?:png|jpe?g|tiff?|bmp|gif|webp|jp2|(?:png|tiff?)\.gz))",
    re.IGNORECASE | re.DOTALL,
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def image_file(identifier: str, colour: str) -> str:
    """Return the file name of one channel of an image."""
    return f"{identifier}_{colour}.png"


def printable(text: str) -> str:
    r"""Return ``text`` with unprintable characters escaped.

    A byte of a file name that is not UTF-8 becomes \xe4 or the like.
    """
    return "".join(_escaped(mark) for mark in text)


def _escaped(mark: str) -> str:
    if "\udc80" <= mark <= "\udcff":
        return f"\\x{ord(mark) - 0xDC00:02x}"
    return mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii")


def text_fault(identifier: str) -> str | None:
    """Say why a table or a terminal cannot hold ``identifier``, or return None."""
    if _SURROGATES.search(identifier):
        return (
            f"Id '{printable(identifier)}' is not UTF-8, so no table can hold it; rename the files, or list others "
            "(names from an older Windows: convmv -f latin1 -t utf-8 --notest)"
        )
    if not identifier.isprintable():
        return f"Id '{printable(identifier)}' has a control character, which tables and terminals do not show; rename it"
    return None


def id_fault(identifier: str) -> str | None:
    """Say why ``identifier`` cannot stand in file names and tables, or return None."""
    if not identifier or identifier != identifier.strip():
        return f"Id '{printable(identifier)}' is empty or has spaces around it"
    if _SURROGATES.search(identifier):
        return text_fault(identifier)
    if identifier.startswith(".") or "/" in identifier or "\\" in identifier or not identifier.isprintable():
        shown = printable(identifier)
        rule = "no '/', no '\\', no control character and no leading dot"
        return f"Id '{shown}' cannot be part of a file name; it may hold {rule}"
    if len(image_file(identifier, max(COLOURS, key=len)).encode()) > LONGEST_NAME:
        return f"Id '{identifier[:40]}...' is too long for a file name"
    return None


class Ids:
    """The Ids of one table, each checked and unique.

    A line of ``faults`` begins with ``where``, such as "train.csv, ". The table's line number follows.
    """

    def __init__(self, where: str, faults: list[str]) -> None:
        self.where, self.faults = where, faults
        self.lines: dict[str, int] = {}

    def add(self, identifier: str, line: int) -> bool:
        """Add an Id if it is well formed and new, else add a fault.

        Returns whether the Id was added.
        """
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
    """The image files of one folder.

    ``files`` has the names that end in one of ``endings``, by Id and colour. ``unfit`` says, for an Id and colour, why a file
    that looks like that channel is refused.
    """

    endings: tuple[str, ...]
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    unfit: dict[tuple[str, str], str] = field(default_factory=dict)

    def images(self) -> list[str]:
        """Return the sorted Ids of the images.

        An image counts if it has a sound channel, or two unfit channels.
        """
        count = Counter(identifier for identifier, _ in self.unfit)
        return sorted(self.files.keys() | {identifier for identifier, channels in count.items() if channels > 1})

    def lacking(self, identifier: str) -> Iterator[str]:
        """Yield a line for each channel that an image lacks.

        It says why a file there is unfit, or that the file is missing.
        """
        here, expected = self.files.get(identifier, {}), " or ".join(self.endings[:2])
        for colour in COLOURS:
            if colour not in here:
                missing = f"{identifier}_{colour}{expected}: missing{self._other_form(identifier)}"
                yield self.unfit.get((identifier, colour), missing)

    def _other_form(self, identifier: str) -> str:
        other = other_form(identifier, self.files)
        return f"; '{other}' is here, but its accents are encoded differently (NFC or NFD): rename one of them" if other else ""


def find_channels(folder: Path, endings: tuple[str, ...] = ENDINGS) -> Channels:
    """List the channels that ``folder`` holds of each image. Raises OSError if it cannot be listed.

    Hidden files are skipped. A Mac's archive unpacks a "._<Id>_red.png" beside each file.
    """
    found = Channels(endings)
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (parts := _IMAGE.fullmatch(entry.name)):
                _add(found, entry, parts)
    return found


def other_form(identifier: str, there: Iterable[str]) -> str | None:
    """Return the name in ``there`` that is ``identifier`` but for the encoding of accents.

    A Mac encodes accents differently from other systems.
    """
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
    # Of two sound files for one channel, the ending that is first in ``endings`` wins.
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
        return "is a broken link" if entry.is_symlink() else "is a pipe or a device; a file is expected here"
    except OSError as error:
        return f"cannot be accessed ({error.strerror})"
