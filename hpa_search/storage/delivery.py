"""Write a file here and deliver it to its place, by way of the cache if the place is remote."""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpa_search.locks import Lock
from hpa_search.storage.data_cache import usable
from hpa_search.storage.naming import naming
from hpa_search.storage.patience import FIRST_SECONDS, Say
from hpa_search.storage.place import Location, Place
from hpa_search.storage.store import Store
from hpa_search.system_errors import CACHE, refusing

logger = logging.getLogger(__name__)

OUTPUTS = "outputs"


@contextmanager
def delivered(given: Location, cache: Path, say: Say = logger.warning) -> Iterator[Path]:
    """Yield the local path at which to write a place's file.

    A remote place's file is pushed if the block succeeds. The block may leave other files beside it, such as finished parts.
    They are there when the same place is asked for again. Raises UserError if the store refuses or does not answer, before or
    after the block.
    """
    place = Place.of(given)
    if place.is_local:
        yield place.local
        return
    store = Store(place.parent, first=FIRST_SECONDS, tell=say)
    store.reach()  # an unreachable store fails before the work, not after it
    folder = usable(cache).resolve() / OUTPUTS / hashlib.sha256(str(place).encode()).hexdigest()[:16]
    lock = Lock(folder.with_name(f".{folder.name}.lock"))
    with refusing(usable(cache), option=CACHE, doing="the cache cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        with naming(folder / place.name, place):
            yield folder / place.name
            store.push(folder / place.name, place.name)
        shutil.rmtree(folder, ignore_errors=True)  # only now: after a failure, the next call reuses the parts
    finally:
        lock.release()
