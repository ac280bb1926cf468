"""Open a folder; if it lies in an object store, open a mirror of it."""

import hashlib
import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hpa_search.errors import UserError
from hpa_search.locks import HeldError, Lock
from hpa_search.storage.data_cache import usable
from hpa_search.storage.mirror import Mirror, Order
from hpa_search.storage.naming import naming, shown
from hpa_search.storage.patience import FIRST_SECONDS, Say
from hpa_search.storage.place import Location, Place
from hpa_search.storage.store import Store
from hpa_search.system_errors import CACHE, message, refusing

logger = logging.getLogger(__name__)

KEEP_SECONDS = 10.0
"""Seconds between two pushes."""
MIRRORS = "mirrors"


class WorkingCopy:
    """An opened folder of a place.

    ``folder`` is a local place itself, or the folder of ``mirror``. ``mirror`` is None for a local place.
    """

    def __init__(self, place: Place, folder: Path, mirror: Mirror | None = None) -> None:
        self.place, self.folder, self.mirror = place, folder, mirror

    @classmethod
    def of(cls, given: "WorkingCopy | Path") -> "WorkingCopy":
        """Return a local folder as `WorkingCopy`. An opened folder is returned as it is."""
        return given if isinstance(given, WorkingCopy) else cls(Place.of(given), given)

    def fetch(self, *patterns: str) -> None:
        """Fetch the files of ``patterns`` into ``folder``, as `Mirror.fetch` does. Does nothing for a local place."""
        if self.mirror is not None:
            self.mirror.fetch(*patterns)

    def push(self, *patterns: str) -> None:
        """Push what changed in ``folder`` to the place, as `Mirror.push` does. Does nothing for a local place."""
        if self.mirror is not None:
            self.mirror.push(*patterns)

    def has(self, path: Path) -> bool:
        """Return whether the file at ``path`` in ``folder`` exists, fetched or not. Its folder must have been listed."""
        return path.is_file() if self.mirror is None else self.mirror.has(path.relative_to(self.folder).as_posix())

    def obtain(self, paths: Sequence[Path]) -> None:
        """Fetch the files at ``paths`` in ``folder``."""
        if self.mirror is not None and paths:
            self.mirror.fetch(*(path.relative_to(self.folder).as_posix() for path in paths))

    @contextmanager
    def alone(self) -> Iterator[Mirror | None]:
        """Yield the mirror, None for a local place.

        No push runs in the background during the block.
        """
        if self.mirror is None:
            yield None
            return
        with self.mirror.held():
            yield self.mirror

    def names(self) -> list[str]:
        """Return the sorted names of the entries directly in the place."""
        if self.mirror is None:
            return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        return sorted(name.rstrip("/") for name in self.mirror.store.list(recursive=False) if name.rstrip("/"))

    def sizes(self, under: str) -> dict[str, int]:
        """Return the bytes of the place's files in the folder ``under`` of it, by their names in the place."""
        if self.mirror is not None:
            return {name: one.size for name, one in self.mirror.store.list(under).items()}
        found = {}
        for path in (self.folder / under).rglob("*"):
            with suppress(FileNotFoundError):  # another process renames its files
                if path.is_file():
                    found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return found

    def remove(self, name: str) -> None:
        """Remove a file from the place and from ``folder``. One that is gone is no error."""
        if self.mirror is not None:
            self.mirror.store.delete(name)
        (self.folder / name).unlink(missing_ok=True)

    def empty(self, name: str) -> None:
        """Leave nothing in a file of the place, nor in its copy in ``folder`` if there is one."""
        if self.mirror is not None:
            self.mirror.store.write(name, b"")
        if self.mirror is None or (self.folder / name).is_file():
            (self.folder / name).write_bytes(b"")

    def shown(self, text: str) -> str:
        """Return ``text`` with paths in the mirror replaced by their places."""
        return shown(text, self.folder, self.place)

    def saying(self, say: Say) -> Say:
        """Return ``say`` with its messages rewritten as by `shown`."""
        return lambda line: say(self.shown(line))


@contextmanager
def opened(
    given: Location | WorkingCopy,
    cache: Path,
    *patterns: str,
    keeps: bool = False,
    order: Order = ((),),
    deletes: Sequence[str] = (),
    first: float = FIRST_SECONDS,
    say: Say = logger.warning,
) -> Iterator[WorkingCopy]:
    """Open a local folder as it is, a remote folder as a mirror below ``cache``.

    The mirror fetches the files of ``patterns``; without patterns, nothing. With ``keeps``, changes are pushed every few
    seconds and at the end. An exception does not prevent the last push. ``order`` and ``deletes`` are those of `Mirror`.
    ``first`` is how many seconds to wait for the store's first answer. The mirror is deleted at the end. A UserError that
    leaves the block names the place.

    An opened folder stays as it is; the files of ``patterns`` are fetched. Raises UserError if the place is malformed, or its
    store refuses or does not answer.
    """
    if isinstance(given, WorkingCopy):
        if patterns:
            given.fetch(*patterns)
        yield given
        return
    place = Place.of(given)
    if place.is_local:
        yield WorkingCopy(place, place.local)
        return
    with mirror_folder(cache, place) as folder, naming(folder, place):
        mirror = Mirror(Store(place, first=first, tell=say), folder, order=order, deletes=deletes)
        mirror.store.reach()
        if patterns:
            mirror.fetch(*patterns)
        with _kept(mirror, say) if keeps else _left():
            yield WorkingCopy(place, folder, mirror)


@contextmanager
def _left() -> Iterator[None]:
    yield


@contextmanager
def _kept(mirror: Mirror, say: Say) -> Iterator[None]:
    """Push changes in ``mirror`` during the block and at its end."""
    try:
        with every(KEEP_SECONDS, mirror.push, say):
            yield
    except BaseException:
        try:
            mirror.push()
        except UserError as error:  # the first error is the one to raise
            say(f"The last files written are not in the store: {error}")
        raise
    mirror.push()


@contextmanager
def every(seconds: float, act: Callable[[], None], say: Say) -> Iterator[None]:
    """Call ``act`` every ``seconds`` in a thread while the block runs.

    Its errors are not raised. ``say`` gets the first of successive errors.
    """
    over = threading.Event()

    def beat() -> None:
        reported = False
        while not over.wait(seconds):
            try:
                act()
                reported = False
            except Exception as error:
                if not reported:
                    say(message(error) if isinstance(error, OSError) else str(error))
                reported = True
                if not isinstance(error, UserError | OSError):
                    logger.exception("unexpected error in a background call")

    thread = threading.Thread(target=beat, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def mirror_folder(cache: Path, place: Place) -> Iterator[Path]:
    """Yield a new folder below ``cache`` to mirror ``place`` in.

    It is deleted at the end. The kernel frees its lock when the process ends. So a later call finds and deletes the folder of
    a killed process.
    """
    above = usable(cache).resolve() / MIRRORS
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    folder = above / f"{digest}-{uuid.uuid4().hex[:12]}"
    lock = Lock(folder.with_name(f"{folder.name}.lock"))
    with refusing(usable(cache), option=CACHE, doing="the cache cannot be written"):
        above.mkdir(parents=True, exist_ok=True)
        _clear(above)
        lock.acquire()  # before the folder is made: `_clear` of another process deletes a folder without a held lock
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            # Unlinked before it is released, so that no other process locks a file that is about to go.
            lock.path.unlink(missing_ok=True)
            lock.release()


def _clear(above: Path) -> None:
    """Remove the folders whose processes have ended."""
    for path in above.glob("*.lock"):
        lock = Lock(path)
        try:
            lock.try_acquire()
        except (HeldError, OSError):
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink(missing_ok=True)
        lock.release()
