"""Locks between processes: the kernel's, or a marker file where the file system has no locks.

The kernel's lock ends with its process. A killed process leaves its marker. The next process on the same machine sees that
the holder is gone. A process on another machine cannot, nor can any where the file system cannot exchange two names. A brief
lock is therefore taken from a marker that has not changed for `LEFT_SECONDS`, by the waiter's clock.
"""

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hpa_search.system_errors import NoLockService

LEFT_SECONDS = 15.0
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

# filelock's warning about its marker is for programmers, not for users.
warnings.filterwarnings("ignore", message="flock not supported on this filesystem")


class HeldError(Exception):
    """Another process holds the lock."""


class Lock:
    """The lock of the file ``path``, which is created. Entering it waits for its holder.

    ``brief`` says that the lock is held for moments only. With ``marker`` false, a file system without locks is an error. All
    methods raise OSError that names ``path``: NoLockService if the file system has no locks.
    """

    def __init__(self, path: Path, *, brief: bool = False, marker: bool = True) -> None:
        self.path, self._brief = path, brief
        self._lock = FileLock(path, fallback_to_soft=marker)
        self._seen: tuple[int, ...] | None = None

    def acquire(self) -> None:
        """Take the lock; wait for its holder."""
        with _named(self.path):
            if not self._brief:
                self._lock.acquire()
                return
            while not self._taken():
                self._break_left_marker()

    def try_acquire(self) -> None:
        """Take the lock. Raises HeldError while another process holds it."""
        with _named(self.path):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise HeldError(str(self.path)) from None

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        with _named(self.path):
            self._lock.release()

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _taken(self) -> bool:
        try:
            self._lock.acquire(timeout=LEFT_SECONDS)
        except Timeout:
            return False
        return True

    def _break_left_marker(self) -> None:
        """Remove a marker that has not changed since the last wait: nobody holds a brief lock for so long."""
        before, self._seen = self._seen, _signature(self.path)
        if before is not None and before == self._seen and _is_marker(self.path):
            self.path.unlink(missing_ok=True)
            self._seen = None


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _is_marker(path: Path) -> bool:
    """Return whether the file itself is the lock, for want of flock, and not the kernel's lock on it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.ENOSYS
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise NoLockService(errno.ENOSYS, os.strerror(errno.ENOSYS), str(path)) from error
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            raise NoLockService(error.errno, error.strerror, str(path)) from error
        error.filename = error.filename or str(path)
        raise
