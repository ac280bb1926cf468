"""Use an object store as a folder of whole objects."""

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
from hpa_search.storage.patience import OUTAGE_SECONDS, Patience, Say
from hpa_search.storage.place import Place

logger = logging.getLogger(__name__)

BLOCK = 64 * 2**20
"""Bytes moved by one request."""
FETCHES = 5
"""Attempts to fetch a file that changes meanwhile."""

T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """An object as the store lists it.

    ``size`` is in bytes. ``changed`` is the time in whole seconds, None if unknown.
    """

    size: int
    changed: int | None


class Store:
    """The objects below the remote ``place``.

    Every call waits for a store that does not answer; see `patience`. The first answer is waited for ``first`` seconds: a
    mistyped endpoint should fail soon. ``tell`` gets the messages about outages. Threads may share a store. Every method
    raises UserError for faults that waiting cannot mend, such as a missing bucket. It raises the subclass Unreachable when
    the patience runs out.
    """

    def __init__(self, place: Place, *, first: float = OUTAGE_SECONDS, tell: Say = logger.warning) -> None:
        self.place, self._endpoint, self._first = place, endpoint(place), first
        hint = "check that the store is up and the network works"
        hint += ", and that AWS_ENDPOINT_URL is right if the store is not Amazon's; " if place.scheme == "s3" else "; "
        hint += "then give the same command again to resume"
        self._patience = Patience(f"{place} ({self._endpoint})", transient=is_transient, seconds=first, tell=tell, hint=hint)

    def list(self, under: str = "", *, recursive: bool = True) -> dict[str, Stored]:
        """Return the objects in the folder ``under``, by their names below the place.

        A missing folder has none. Without ``recursive``, only direct entries are listed. A subfolder is a name with a final
        '/'.
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
        """Make one request, so that a store that is out of reach or refuses raises now."""
        self.list(recursive=False)

    def look(self, name: str) -> Stored | None:
        """Return the object ``name``; None if it does not exist."""
        place = self.place / name
        return self._ask(lambda: self._look(place), place)

    def read(self, name: str) -> bytes:
        """Return the content of ``name``. Raises Missing, a UserError, if it does not exist."""
        place = self.place / name

        def get() -> bytes:
            with self._files.open_input_stream(place.key) as source:
                return bytes(source.read())

        return self._ask(get, place)

    def write(self, name: str, content: bytes) -> Stored:
        """Write ``content`` as ``name``.

        A reader sees the old object or the new one.
        """
        place = self.place / name
        return self._ask(lambda: self._put(place, pa.py_buffer(content)), place)

    def fetch(self, name: str, path: Path, listed: Stored | None = None) -> Stored:
        """Copy ``name`` to the local ``path`` and return the copied object.

        The file appears whole and with the object's time. ``listed`` saves a request for an object that was just listed.
        Raises Missing if the object does not exist. Raises OSError if ``path`` cannot be written.
        """
        place = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._ask(lambda: self._fetch(place, path, listed), place)

    def push(self, path: Path, name: str) -> Stored:
        """Copy the local file ``path`` to ``name`` and return the stored object.

        Raises OSError if ``path`` cannot be read.
        """
        place = self.place / name
        if path.stat().st_size <= BLOCK:
            content = pa.py_buffer(path.read_bytes())
            return self._ask(lambda: self._put(place, content), place)
        with pa.memory_map(str(path)) as source:
            mapped = source.read_buffer()
            return self._ask(lambda: self._put(place, mapped), place)

    def delete(self, name: str) -> None:
        """Delete ``name`` if it exists."""
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
        self._patience.seconds = OUTAGE_SECONDS  # the store has answered, so its address is right
        return found

    def _look(self, place: Place) -> Stored | None:
        found = self._files.get_file_info(place.key)
        return _stored(found) if found.is_file else None

    def _put(self, place: Place, content: pa.Buffer) -> Stored:
        # One write: closing the stream completes the object, even after an exception between two writes.
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
                # An object of one block came in one request, so it cannot be a mixture of two versions.
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
    # Whole seconds: some stores give a finer time for one object than in a list.
    return Stored(found.size or 0, None if found.mtime_ns is None else found.mtime_ns // 10**9)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path``; the caller renames it.

    It is removed at the end. It is not synced: the file can be fetched again.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
