"""The folder for the files of Ray, Tune and Train. Nothing in it is read again, and the driver removes it at its end."""

import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpa_search.errors import UserError
from hpa_search.locks import HeldError, Lock

PREFIX = "hpa-search-scratch-"
FALLBACKS = ("/tmp", "/var/tmp", "/dev/shm")
LEAST_ROOM = 200 * 2**20
"""Free bytes that a candidate must have: for Ray's logs, and for its object store where /dev/shm is small."""
BELOW = "/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""The path of a socket below Ray's folder. A whole path has 107 bytes at most."""
LOCK = ".hpa-search-scratch.lock"
_NAME = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
"""The names that tempfile.mkdtemp gives. Other folders are somebody else's."""
ATTEMPTS = 10


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder for temporary files in which Ray can make sockets. Remove it at the end.

    The folder is in the first usable one of $RAY_TMPDIR, $TMPDIR, /tmp, /var/tmp, /dev/shm and the home folder. Folders that
    killed drivers left there are removed first. Raises UserError with the fault of each candidate if none is usable.
    """
    folder = _make(_candidates())
    lock = Lock(folder / LOCK, marker=False)
    try:
        with suppress(OSError, HeldError):  # the lock serves only the cleaning after a kill
            lock.try_acquire()
        yield folder
    finally:
        lock.release()
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a scratch folder. Try several times: ending processes may still write into it."""
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _candidates() -> list[Path]:
    named = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    home = [] if not os.environ.get("HOME") else [os.environ["HOME"]]
    return [Path(path) for path in dict.fromkeys([*named, *FALLBACKS, *home]) if path.startswith("/")]


def _make(candidates: list[Path]) -> Path:
    """Make a folder in the first usable one of ``candidates``. Raises UserError if none is usable."""
    faults = []
    for above in candidates:
        try:
            _clear(above)
            return _made(above)
        except OSError as error:
            faults.append(f"{above}: {error.strerror or error}")
    raise UserError(
        f"no folder for temporary files is usable ({'; '.join(faults)}); set TMPDIR to a writable folder on a local disk with "
        f"{LEAST_ROOM / 2**20:.0f} MiB free and a path of at most {_longest()} characters, because Ray makes sockets there"
    )


def _made(above: Path) -> Path:
    """Make and return a new folder in ``above``. Raises OSError if Ray could not work there."""
    if shutil.disk_usage(above).free < LEAST_ROOM:
        raise OSError(f"less than {LEAST_ROOM / 2**20:.0f} MiB free")
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
    try:
        deepest = Path(f"{folder}{BELOW}")
        deepest.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(deepest))
        shutil.rmtree(deepest.parents[1])
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(f"no socket can be made in it ({error.strerror or error})") from None
    return folder


def _longest() -> int:
    return 107 - len(BELOW) - len(f"/{PREFIX}") - 8


def _is_ours(folder: Path) -> bool:
    """Return whether a driver of this user made ``folder``."""
    found = folder.lstat()
    return bool(_NAME.fullmatch(folder.name)) and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _clear(above: Path) -> None:
    """Remove the folders of killed drivers: their locks are free."""
    for lock_file in above.glob(f"{PREFIX}*/{LOCK}"):
        if not _is_ours(lock_file.parent):
            continue
        lock = Lock(lock_file, marker=False)
        try:
            lock.try_acquire()
        except (HeldError, OSError):
            continue
        shutil.rmtree(lock_file.parent, ignore_errors=True)
        lock.release()
