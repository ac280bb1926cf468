"""A local folder that mirrors a folder in an object store.

A mirror begins empty and knows the files it has fetched and pushed. The store is right about all other files. A change or
removal here that is not pushed yet survives a fetch. A push deletes an object only if this mirror knows it and ``deletes``
allows it. Unknown objects may be another writer's. Hidden files stay here, such as a file being written. So do the system's
files.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hpa_search.storage.parallel import in_parallel
from hpa_search.storage.store import Store, Stored
from hpa_search.system_files import is_system_file

Order = Sequence[Sequence[str]]
"""Groups of patterns. All files of a group reach the store before the next group is sent. The empty group is all other files."""

_Signature = tuple[int, int]


@dataclass(frozen=True)
class _Known:
    """A file when both sides agreed: its listing there, its size and time (ns) here."""

    there: Stored
    here: _Signature


class Mirror:
    """Mirrors the place of ``store`` in ``folder``, as far as asked.

    Threads may share a mirror. ``order`` is the order of pushes; ``deletes`` are the patterns that may be deleted from the
    store. A pattern is a name, a folder with a final '/', or a name with ``*``. ``*`` stands for any text, '/' too. All
    methods raise what `Store` raises.
    """

    def __init__(self, store: Store, folder: Path, *, order: Order = ((),), deletes: Sequence[str] = ()) -> None:
        self.store, self.folder = store, folder
        self._order, self._deletes = order, deletes
        self._known: dict[str, _Known] = {}
        self._listed: dict[str, Stored] = {}
        self._lock = threading.RLock()

    def fetch(self, *patterns: str) -> None:
        """Fetch the files of ``patterns`` (default: all).

        A file is fetched if it is missing here or changed in the store. A file that the store no longer has is dropped here.
        """
        with self._lock:
            there = self._look(patterns)
            for name in [name for name in self._known if matches(name, patterns) and name not in there]:
                self._drop(name)
            in_parallel(self._fetch, [(name, stored) for name, stored in there.items() if self._differs(name, stored)])

    def push(self, *patterns: str) -> None:
        """Push the files of ``patterns`` (default: all).

        A file is pushed if it changed here since the last fetch or push. Without patterns, files that are gone here are then
        deleted from the store.
        """
        with self._lock:
            here = self._scan()
            changed = [name for name, signature in here.items() if self._is_new(name, signature) and matches(name, patterns)]
            for group in _grouped(changed, self._order):
                # `in_parallel` waits, so a group is in the store before the next group is sent.
                in_parallel(self._push, [(name, here[name]) for name in group])
            if not patterns:
                self._delete(here.keys())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other threads from fetching and pushing while the block runs."""
        with self._lock:
            yield

    def has(self, name: str) -> bool:
        """Return whether ``name`` is here, or was in the store at its folder's last listing."""
        # A known file that is missing here was removed here.
        return (self.folder / name).is_file() or (name in self._listed and name not in self._known)

    def knows(self, name: str) -> bool:
        """Return whether ``name`` in the store is as this mirror last saw it.

        Then no other writer has touched it.
        """
        known = self._known.get(name)
        return self.store.look(name) == (known.there if known else None)

    def _look(self, patterns: Sequence[str]) -> dict[str, Stored]:
        """Return the objects of ``patterns``, and remember the whole listing."""
        folders = _outermost({_folder(pattern) for pattern in patterns if _is_many(pattern)} if patterns else {""})
        singles = [pattern for pattern in patterns if not _is_many(pattern) and not _within(pattern, folders)]
        listed: dict[str, Stored] = {}
        in_parallel(lambda under: listed.update(self.store.list(under)), folders)

        def look(name: str) -> None:
            if (found := self.store.look(name)) is not None:
                listed[name] = found

        in_parallel(look, singles)
        kept = {name: one for name, one in self._listed.items() if name not in singles and not _within(name, folders)}
        self._listed = kept | listed
        return {name: stored for name, stored in listed.items() if matches(name, patterns) and not _is_hidden(name)}

    def _differs(self, name: str, stored: Stored) -> bool:
        """Return whether ``name`` must be fetched.

        An unknown file that lies here is new and wins. So does a known file that was changed or removed here.
        """
        known, here = self._known.get(name), _signature(self.folder / name)
        if known is None:
            return here is None
        return here == known.here and known.there != stored

    def _fetch(self, wanted: tuple[str, Stored]) -> None:
        name, stored = wanted
        path = self.folder / name
        there = self.store.fetch(name, path, stored)
        if (here := _signature(path)) is not None:
            self._known[name] = _Known(there, here)

    def _drop(self, name: str) -> None:
        """Forget a file that the store lost, and remove it unless it changed here."""
        if _signature(self.folder / name) == self._known.pop(name).here:
            (self.folder / name).unlink()

    def _scan(self) -> dict[str, _Signature]:
        found: dict[str, _Signature] = {}
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [one for one in folders if not is_system_file(one)]
            for path in (Path(folder) / one for one in files if not is_system_file(one)):
                if (signature := _signature(path)) is not None:
                    found[path.relative_to(self.folder).as_posix()] = signature
        return found

    def _is_new(self, name: str, signature: _Signature) -> bool:
        known = self._known.get(name)
        return known is None or known.here != signature

    def _push(self, changed: tuple[str, _Signature]) -> None:
        # The signature from before the push: a write during the push is new again at the next push.
        name, signature = changed
        with suppress(FileNotFoundError):  # removed between scan and push
            self._known[name] = _Known(self.store.push(self.folder / name, name), signature)

    def _delete(self, here: Iterable[str]) -> None:
        # Known files only: other objects may be another writer's.
        gone = [name for name in self._known.keys() - set(here) if self._deletes and matches(name, self._deletes)]
        for name in sorted(gone):
            self.store.delete(name)
            del self._known[name]
            self._listed.pop(name, None)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether ``name`` matches one of ``patterns``, or there are none."""
    return not patterns or any(
        name.startswith(pattern) if pattern.endswith("/") else fnmatchcase(name, pattern) for pattern in patterns
    )


def _is_many(pattern: str) -> bool:
    return pattern.endswith("/") or "*" in pattern


def _folder(pattern: str) -> str:
    return pattern.partition("*")[0].rpartition("/")[0]


def _within(name: str, folders: Iterable[str]) -> bool:
    return any(not folder or name == folder or name.startswith(f"{folder}/") for folder in folders)


def _outermost(folders: set[str]) -> list[str]:
    """Return the folders that lie in none of the others."""
    return sorted(one for one in folders if not _within(one, folders - {one}))


def _is_hidden(name: str) -> bool:
    return any(map(is_system_file, name.split("/")))


def _grouped(names: Sequence[str], order: Order) -> list[list[str]]:
    named = [pattern for group in order for pattern in group]
    others = [name for name in names if not named or not matches(name, named)]
    return [[name for name in names if matches(name, group)] if group else others for group in order]


def _signature(path: Path) -> _Signature | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
