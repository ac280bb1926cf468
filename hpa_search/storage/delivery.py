"""A file that is made here and delivered to a place: beside its place where that is local, else by way of the cache."""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpa_search.locks import Lock
from hpa_search.storage.data_cache import usable
from hpa_search.storage.naming import naming
from hpa_search.storage.patience import FIRST_SECONDS, Tell
from hpa_search.storage.place import Location, Place
from hpa_search.storage.store import Store
from hpa_search.system_errors import CACHE, refusing

logger = logging.getLogger(__name__)

OUTPUTS = "outputs"


@contextmanager
def delivered(given: Location, cache: Path, say: Tell = logger.warning) -> Iterator[Path]:
    """Yield the local path at which to write the file of a place; a remote one is pushed when the block ends well.

    What else the block leaves beside it, such as the parts of what was not finished, is there when the same place is asked for
    again. Raises UserError where the place's store refuses or does not answer, before the block and after it.
    """
    place = Place.of(given)
    if place.is_local:
        yield place.local
        return
    store = Store(place.parent, first=FIRST_SECONDS, tell=say)
    store.reach()  # that it cannot be written to is told before the work and not after
    folder = usable(cache).resolve() / OUTPUTS / hashlib.sha256(str(place).encode()).hexdigest()[:16]
    lock = Lock(folder.with_name(f".{folder.name}.lock"))
    with refusing(usable(cache), option=CACHE, doing="the cache cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        with naming(folder / place.name, place):
            yield folder / place.name
            store.push(folder / place.name, place.name)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
