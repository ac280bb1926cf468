"""The folder for what Ray, Tune and Train write: nothing in it is read again, and it goes when the driver ends."""

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
"""Bytes that a candidate must have free: Ray's logs, and its object store where /dev/shm is small."""
BELOW = "/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""What Ray adds to the path of its folder for a socket; a socket's path has 107 bytes at most."""
LOCK = ".hpa-search-scratch.lock"
_NAME = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
"""How tempfile.mkdtemp names a folder; others are somebody else's."""
ATTEMPTS = 10


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder for temporary files in which sockets can be made; remove it in the end.

    What killed drivers have left beside it goes first. It is in $RAY_TMPDIR, $TMPDIR, /tmp, /var/tmp, /dev/shm or the home
    folder: the first of these that serves. Raises UserError that says of each why it does not.
    """
    folder = _make(_candidates())
    lock = Lock(folder / LOCK, marker=False)
    try:
        with suppress(OSError, HeldError):  # only a search after a kill needs it
            lock.try_acquire()
        yield folder
    finally:
        lock.release()
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a scratch folder, into which processes that are just ending may still write."""
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
    """Make the folder in the first of ``candidates`` that serves."""
    faults = []
    for above in candidates:
        try:
            _clear(above)
            return _made(above)
        except OSError as error:
            faults.append(f"{above}: {error.strerror or error}")
    raise UserError(
        f"no folder for temporary files serves ({'; '.join(faults)}); set TMPDIR to one on a local disk that can be written, has "
        f"{LEAST_ROOM / 2**20:.0f} MiB free and a path of at most {_longest()} characters, for Ray makes sockets there"
    )


def _made(above: Path) -> Path:
    """Make and return a new folder in ``above``. Raises OSError where Ray could not work in it."""
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
    """Return whether a driver of this user's made ``folder``."""
    found = folder.lstat()
    return bool(_NAME.fullmatch(folder.name)) and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _clear(above: Path) -> None:
    """Remove the folders of drivers that were killed: their locks are free."""
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
