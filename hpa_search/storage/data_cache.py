"""Datasets in object stores: fetched once per machine into its cache, and from then on only compared with the store's list."""

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from filelock import FileLock

from hpa_search.errors import UserError
from hpa_search.storage.parallel import in_parallel
from hpa_search.storage.patience import Tell
from hpa_search.storage.place import Location, Place
from hpa_search.storage.store import Store, Stored

logger = logging.getLogger(__name__)

DATA = "remote-data"
SUFFIXES = (".csv", ".png", ".jpg", ".jpeg")
"""What a dataset is made of; whatever else lies beside it is not fetched."""

Progress = Callable[[int, int], None]


def localise(given: Location, cache: Path, progress: Progress | None = None, say: Tell = logger.warning) -> Path:
    """Return the local folder of a dataset: its own, or one below ``cache`` that holds what the store lists now.

    Of several processes of a machine one fetches, many files at a time, and the others wait for it; after a kill the next
    goes on. A file that has another size or time than its object is fetched again, one without an object goes.
    ``progress`` is called with the files done and the number of all that have to be fetched, ``say`` hears of outages.
    Raises UserError as `Store` does, where there is no such file below a remote place, or the cache cannot be written.
    """
    place = Place.of(given)
    if place.is_local:
        return place.local
    folder = local_folder(place, cache)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            _bring_up_to_date(Store(place, tell=say), folder, progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{cache}: the cache cannot be written ({reason}); make room or choose another folder") from error
    return folder


def local_folder(place: Place, cache: Path) -> Path:
    """Return where `localise` keeps the dataset of ``place``, which is the path itself where that is local."""
    return place.local if place.is_local else cache.resolve() / DATA / hashlib.sha256(str(place).encode()).hexdigest()[:16]


def _bring_up_to_date(store: Store, folder: Path, progress: Progress | None) -> None:
    there = {name: stored for name, stored in store.list().items() if _is_wanted(name)}
    if not there:
        raise UserError(f"{store.place}: no {', '.join(SUFFIXES)} file below it; give the URL of a dataset's folder")
    left = [name for name, stored in there.items() if not _is_current(folder / name, stored)]
    _remove_others(folder, there)
    tell = partial(_tell, progress, len(left))
    in_parallel(lambda name: _fetch(store, folder, name, there[name]), left, done=tell)


def _tell(progress: Progress | None, of: int, done: int) -> None:
    if progress is not None:
        progress(done, of)


def _fetch(store: Store, folder: Path, name: str, stored: Stored) -> None:
    store.fetch(name, folder / name, stored)


def _is_wanted(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in name.split("/"))


def _is_current(path: Path, stored: Stored) -> bool:
    """Whether the file is the object as it is listed: `Store.fetch` gives a file its object's time."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == stored.size and (stored.changed is None or int(found.st_mtime) == stored.changed)


def _remove_others(folder: Path, there: dict[str, Stored]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in there:
            path.unlink(missing_ok=True)
