"""A folder that may lie in an object store, opened to be worked on: itself where it is local, else a mirror of it."""

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
from hpa_search.storage.patience import FIRST_SECONDS, Tell
from hpa_search.storage.place import Location, Place
from hpa_search.storage.store import Store
from hpa_search.system_errors import CACHE, message, refusing

logger = logging.getLogger(__name__)

KEEP_SECONDS = 10.0
"""Between two looks at what there is to be pushed."""
MIRRORS = "mirrors"


class Opened:
    """The folder of a place: ``folder`` is the place itself where that is local, else its mirror; then ``mirror`` is not None."""

    def __init__(self, place: Place, folder: Path, mirror: Mirror | None = None) -> None:
        self.place, self.folder, self.mirror = place, folder, mirror

    @classmethod
    def of(cls, given: "Opened | Path") -> "Opened":
        """Return a local folder as one that is opened; what is opened already as it is."""
        return given if isinstance(given, Opened) else cls(Place.of(given), given)

    def fetch(self, *patterns: str) -> None:
        """Bring the files of ``patterns`` into ``folder``, as `Mirror.fetch` does; nothing to do where the place is local."""
        if self.mirror is not None:
            self.mirror.fetch(*patterns)

    def push(self, *patterns: str) -> None:
        """Bring what changed in ``folder`` to the place, as `Mirror.push` does; nothing to do where the place is local."""
        if self.mirror is not None:
            self.mirror.push(*patterns)

    def has(self, path: Path) -> bool:
        """Whether the file that ``path`` in ``folder`` stands for is there, be it fetched or not (its folder was listed)."""
        return path.is_file() if self.mirror is None else self.mirror.has(path.relative_to(self.folder).as_posix())

    def obtain(self, paths: Sequence[Path]) -> None:
        """Fetch the files that these paths in ``folder`` stand for."""
        if self.mirror is not None and paths:
            self.mirror.fetch(*(path.relative_to(self.folder).as_posix() for path in paths))

    @contextmanager
    def alone(self) -> Iterator[Mirror | None]:
        """Yield the mirror, None where the place is local, and push nothing in the background meanwhile."""
        if self.mirror is None:
            yield None
            return
        with self.mirror.held():
            yield self.mirror

    def names(self) -> list[str]:
        """Return what lies directly in the place, without what is hidden from a mirror."""
        if self.mirror is None:
            return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        return sorted(name.rstrip("/") for name in self.mirror.store.list(recursive=False) if name.rstrip("/"))

    def shown(self, text: str) -> str:
        """Return ``text`` with paths in a mirror as the places that they stand for."""
        return shown(text, self.folder, self.place)

    def saying(self, say: Tell) -> Tell:
        """Return ``say`` with what it is told as by `shown`."""
        return lambda line: say(self.shown(line))


@contextmanager
def opened(
    given: Location | Opened,
    cache: Path,
    *patterns: str,
    keeps: bool = False,
    order: Order = ((),),
    deletes: Sequence[str] = (),
    first: float = FIRST_SECONDS,
    say: Tell = logger.warning,
) -> Iterator[Opened]:
    """Open a folder; of a remote one the files of ``patterns`` are in ``folder``, and nothing else; none given fetches nothing.

    With ``keeps``, what is written there is pushed every few seconds and in the end, also after an exception; ``order`` and
    ``deletes`` are the mirror's. ``first`` is how many seconds the store's first answer is waited for. Mirrors lie below ``cache`` and are gone afterwards. A UserError that leaves the block names
    the place. What is opened already stays as it is, with the files of ``patterns``.
    Raises UserError where a place is none, or its store refuses or does not answer.
    """
    if isinstance(given, Opened):
        if patterns:
            given.fetch(*patterns)
        yield given
        return
    place = Place.of(given)
    if place.is_local:
        yield Opened(place, place.local)
        return
    with mirror_folder(cache, place) as folder, naming(folder, place):
        mirror = Mirror(Store(place, first=first, tell=say), folder, order=order, deletes=deletes)
        mirror.store.reach()
        if patterns:
            mirror.fetch(*patterns)
        with _kept(mirror, say) if keeps else _left():
            yield Opened(place, folder, mirror)


@contextmanager
def _left() -> Iterator[None]:
    yield


@contextmanager
def _kept(mirror: Mirror, say: Tell) -> Iterator[None]:
    """Push what is written in ``mirror`` while the block runs, and what is left of it in the end."""
    try:
        with every(KEEP_SECONDS, mirror.push, say):
            yield
    except BaseException:
        try:
            mirror.push()
        except UserError as error:  # the first error is the one to be told
            say(f"What was written last is not in the store: {error}")
        raise
    mirror.push()


@contextmanager
def every(seconds: float, act: Callable[[], None], say: Tell) -> Iterator[None]:
    """Call ``act`` every few ``seconds`` in a thread while the block runs; a UserError of it is said, once, and not raised."""
    over = threading.Event()

    def beat() -> None:
        told = False
        while not over.wait(seconds):
            try:
                act()
                told = False
            except Exception as error:
                if not told:
                    say(message(error) if isinstance(error, OSError) else str(error))
                told = True
                if not isinstance(error, UserError | OSError):
                    logger.exception("this was not foreseen")

    thread = threading.Thread(target=beat, name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def mirror_folder(cache: Path, place: Place) -> Iterator[Path]:
    """Yield a new empty folder below ``cache`` to mirror ``place`` in; it goes in the end, or when a later one is made.

    Its lock is the kernel's and ends with its process, so that what a killed one has left is known by it.
    """
    above = usable(cache).resolve() / MIRRORS
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:8]
    folder = above / f"{digest}-{uuid.uuid4().hex[:12]}"
    lock = Lock(folder.with_name(f"{folder.name}.lock"))
    with refusing(usable(cache), option=CACHE, doing="the cache cannot be written"):
        above.mkdir(parents=True, exist_ok=True)
        _clear(above)
        lock.acquire()
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            lock.path.unlink(missing_ok=True)
            lock.release()


def _clear(above: Path) -> None:
    """Remove the folders whose processes are gone."""
    for path in above.glob("*.lock"):
        lock = Lock(path)
        try:
            lock.try_acquire()
        except (HeldError, OSError):
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink(missing_ok=True)
        lock.release()
