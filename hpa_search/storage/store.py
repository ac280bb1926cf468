"""An object store as a folder: names below a place are listed, read, written and deleted, each object whole."""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from hpa_search.storage.faults import explained, is_remote, is_transient
from hpa_search.storage.filesystem import endpoint, file_system
from hpa_search.storage.patience import PATIENCE, Patience, Tell
from hpa_search.storage.place import Place

logger = logging.getLogger(__name__)

BLOCK = 64 * 2**20
"""Bytes that are moved by one request."""
FETCHES = 5
"""Times that a file is fetched which changes meanwhile."""

T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """An object as the store lists it: its size in bytes, and when it was written, in whole seconds; None where that is not told."""

    size: int
    changed: int | None


class Store:
    """What lies below ``place``, a remote one. Every call waits for a store that does not answer, as `patience` says.

    ``first`` is how many seconds the first answer is waited for: a mistyped endpoint should be told soon. ``tell`` hears of
    outages. Threads may share a store. Every method raises UserError for what no waiting mends, such as a bucket that does
    not exist or credentials that are refused, and its subclass Unreachable when there is no patience left.
    """

    def __init__(self, place: Place, *, first: float = PATIENCE, tell: Tell = logger.warning) -> None:
        self.place, self._endpoint, self._first = place, endpoint(place), first
        hint = "see that the store is up and the network, "
        hint += "and AWS_ENDPOINT_URL where it is not Amazon's, are right; " if place.scheme == "s3" else "is right; "
        hint += "then give the same command again, and it goes on"
        self._patience = Patience(f"{place} ({self._endpoint})", transient=is_transient, seconds=first, tell=tell, hint=hint)

    def list(self, under: str = "", *, recursive: bool = True) -> dict[str, Stored]:
        """Return the objects in the folder ``under`` by their names below the place; without ``recursive`` those directly in it.

        Folders are passed over, unless it is not ``recursive``: then each is a name that ends in '/'.
        """
        place = self.place / under if under else self.place
        selector = fs.FileSelector(place.key, recursive=recursive)
        try:
            found = self._ask(lambda: self._files.get_file_info(selector), place, FileNotFoundError)
        except FileNotFoundError:
            return {}
        start = len(self.place.key) + 1
        named = {one.path[start:] + ("" if one.is_file else "/"): one for one in found if one.is_file or not recursive}
        return {name: _stored(one) for name, one in named.items()}

    def reach(self) -> None:
        """Ask for something, so that a store that is out of reach, a bucket that is not there, or a refusal is told."""
        self.list(recursive=False)

    def look(self, name: str) -> Stored | None:
        """Return the object ``name`` as the store knows it, None where it is not there."""
        place = self.place / name
        return self._ask(lambda: self._look(place), place)

    def read(self, name: str) -> bytes:
        """Return the content of ``name``. Raises Missing, a UserError, where it is not there."""
        place = self.place / name

        def get() -> bytes:
            with self._files.open_input_stream(place.key) as source:
                return bytes(source.read())

        return self._ask(get, place)

    def write(self, name: str, content: bytes) -> Stored:
        """Write ``content`` as ``name``; a reader sees the old object or the new one."""
        place = self.place / name
        return self._ask(lambda: self._put(place, pa.py_buffer(content)), place)

    def fetch(self, name: str, path: Path, listed: Stored | None = None) -> Stored:
        """Copy ``name`` to the local ``path``, which appears whole and with the object's time; return what was copied.

        ``listed`` spares the look at an object that was listed just now. Raises Missing where it is not there, OSError
        where ``path`` cannot be written.
        """
        place = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._ask(lambda: self._fetch(place, path, listed), place)

    def push(self, path: Path, name: str) -> Stored:
        """Copy the local file ``path`` to ``name``; return it as it is stored. Raises OSError where ``path`` cannot be read."""
        place = self.place / name
        if path.stat().st_size <= BLOCK:
            content = pa.py_buffer(path.read_bytes())
            return self._ask(lambda: self._put(place, content), place)
        with pa.memory_map(str(path)) as source:
            mapped = source.read_buffer()
            return self._ask(lambda: self._put(place, mapped), place)

    def delete(self, name: str) -> None:
        """Delete ``name``, if it is there."""
        place = self.place / name
        with suppress(FileNotFoundError):
            self._ask(lambda: self._files.delete_file(place.key), place, FileNotFoundError)

    @cached_property
    def _files(self) -> fs.FileSystem:
        return file_system(self.place)

    def _ask(self, call: Callable[[], T], place: Place, let_through: type[Exception] | tuple[()] = ()) -> T:
        try:
            found = self._patience(call)
        except Exception as error:
            if isinstance(error, let_through) or not is_remote(error):
                raise
            raise explained(error, place, self._endpoint) from error
        self._patience.seconds = PATIENCE
        return found

    def _look(self, place: Place) -> Stored | None:
        found = self._files.get_file_info(place.key)
        return _stored(found) if found.is_file else None

    def _put(self, place: Place, content: pa.Buffer) -> Stored:
        # In one piece: closing the stream completes the object, also after an exception between two writes.
        with self._files.open_output_stream(place.key) as sink:
            sink.write(content)
        stored = self._look(place)
        if stored is None or stored.size != content.size:
            raise OSError(f"incomplete upload: {stored.size if stored else 'none'} of {content.size} bytes arrived")
        return stored

    def _fetch(self, place: Place, path: Path, listed: Stored | None) -> Stored:
        for _ in range(FETCHES):
            seen = listed or self._look(place)
            if seen is None:
                raise FileNotFoundError(str(place))
            with _whole(path) as part:
                copied = self._copy(place, part)
                # An object of one block came by one request and is of one piece.
                if copied == seen.size and (copied <= BLOCK or self._look(place) == seen):
                    if seen.changed is not None:
                        os.utime(part, (seen.changed, seen.changed))
                    part.replace(path)
                    return seen
            listed = None
        raise OSError(f"incomplete download: {place} changes whenever it is read")

    def _copy(self, place: Place, part: Path) -> int:
        size = 0
        with self._files.open_input_stream(place.key) as source, part.open("wb") as file:
            while block := source.read(BLOCK):
                size += file.write(block)
        return size


def _stored(found: fs.FileInfo) -> Stored:
    # Whole seconds: what some stores tell of one object is finer than what they tell in a list.
    return Stored(found.size or 0, None if found.mtime_ns is None else found.mtime_ns // 10**9)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path``, which is gone afterwards; to be renamed. Not synced: it can be fetched again."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
