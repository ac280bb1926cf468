"""Fetch datasets from object stores: once per machine, into its cache.

Later calls only compare the cache with the store's list.
"""

import hashlib
import logging
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hpa_search.errors import UserError
from hpa_search.locks import Lock
from hpa_search.storage.naming import naming
from hpa_search.storage.parallel import in_parallel
from hpa_search.storage.patience import FIRST_SECONDS, Say
from hpa_search.storage.place import Location, Place
from hpa_search.storage.store import Store, Stored
from hpa_search.system_errors import CACHE, refusing
from hpa_search.system_files import is_system_file

logger = logging.getLogger(__name__)

REMOTE = "remote"
DATASET = (".csv", ".png", ".jpg", ".jpeg")
"""Endings of a dataset's files; other files beside them are not fetched."""
TABLES = (".csv",)
BUNDLE = (".json", ".safetensors", ".onnx", ".md")

Progress = Callable[[int, int], None]


def default_cache() -> Path:
    """Return the default cache folder: $HPA_SEARCH_CACHE or ~/.cache/hpa-search.

    Without a known home folder, the `~` stays. `usable` refuses it later: many commands need no cache.
    """
    cache = Path(os.environ.get("HPA_SEARCH_CACHE", "").strip() or "~/.cache/hpa-search")
    try:
        return usable(cache)
    except UserError:
        return cache


def usable(cache: Path) -> Path:
    """Return ``cache`` with the home folder for a `~`. Raises UserError if the user has no known home folder."""
    if not cache.parts[:1] or not cache.parts[0].startswith("~"):
        return cache
    try:
        # `expanduser` would take an empty HOME for the root folder.
        if cache.parts[0] == "~" and not os.environ.get("HOME"):
            return Path(pwd.getpwuid(os.getuid()).pw_dir, *cache.parts[1:])
        return cache.expanduser()
    except (RuntimeError, KeyError):
        raise UserError(
            f"{cache}: user id {os.getuid()} has no home folder to keep the cache in; give --cache FOLDER, or set HPA_SEARCH_CACHE "
            "or HOME to a folder of this user's"
        ) from None


def localise(
    given: Location,
    cache: Path,
    progress: Progress | None = None,
    *,
    suffixes: tuple[str, ...] = DATASET,
    first: float = FIRST_SECONDS,
    say: Say = logger.warning,
) -> Path:
    """Return a dataset's local folder: a local place's own, else a copy below ``cache``.

    The copy holds the files that the store lists now. One process of a machine fetches many files at a time; the others wait.
    After a kill, the next process resumes the fetch. A file whose size or time differs from its object's is fetched again. A
    file without an object is deleted.

    ``suffixes`` are the endings of the wanted files. ``progress`` is called with the files done and the number to fetch.
    ``say`` gets the messages about outages. ``first`` is how many seconds to wait for the store's first answer. Raises
    UserError as `Store` does. Raises it also if a remote place has no such file, or the cache cannot be written.
    """
    place = Place.of(given)
    if place.is_local:
        return place.local
    folder = local_folder(place, cache)
    with refusing(usable(cache), option=CACHE, doing="the cache cannot be written"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Lock(folder.with_name(f".{folder.name}.lock")):
            _bring_up_to_date(Store(place, first=first, tell=say), folder, suffixes, progress)
    return folder


@contextmanager
def localised(
    given: Location,
    cache: Path,
    progress: Progress | None = None,
    *,
    suffixes: tuple[str, ...] = DATASET,
    say: Say = logger.warning,
) -> Iterator[Path]:
    """Yield the folder that `localise` returns.

    A UserError that leaves the block names the place.
    """
    place = Place.of(given)
    with naming(local_folder(place, cache), place):
        yield localise(place, cache, progress, suffixes=suffixes, say=say)


def local_folder(place: Place, cache: Path) -> Path:
    """Return the folder where `localise` keeps the dataset of ``place``.

    For a local place, it is the place's own path.
    """
    if place.is_local:
        return place.local
    return usable(cache).resolve() / REMOTE / hashlib.sha256(str(place).encode()).hexdigest()[:16]


def _bring_up_to_date(store: Store, folder: Path, suffixes: tuple[str, ...], progress: Progress | None) -> None:
    listed = {name: stored for name, stored in store.list().items() if _is_wanted(name, suffixes)}
    if not listed:
        raise UserError(f"{store.place}: no {', '.join(suffixes)} file below it; correct the URL")
    left = [name for name, stored in listed.items() if not _is_current(folder / name, stored)]
    for name in _held(folder, suffixes) - listed.keys():
        (folder / name).unlink(missing_ok=True)
    report = partial(_report, progress, len(left))
    in_parallel(lambda name: _fetch(store, folder, name, listed[name]), left, done=report)


def _report(progress: Progress | None, of: int, done: int) -> None:
    if progress is not None:
        progress(done, of)


def _fetch(store: Store, folder: Path, name: str, stored: Stored) -> None:
    store.fetch(name, folder / name, stored)


def _is_wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not any(map(is_system_file, name.split("/")))


def _is_current(path: Path, stored: Stored) -> bool:
    """Return whether the file matches the listed object.

    `Store.fetch` gives a file its object's time.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == stored.size and (stored.changed is None or int(found.st_mtime) == stored.changed)


def _held(folder: Path, suffixes: tuple[str, ...]) -> set[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in names if name.lower().endswith(suffixes)}
