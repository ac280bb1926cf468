"""The ledger as a journal file: a lock that dies with its holder, and no torn line under what is appended."""

import os
import threading
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hpa_search.locks import Lock

JOURNAL = "study.journal"


class Journal(JournalStorage):
    """Optuna's storage on the journal at ``path``, which is created where there is none."""

    def __init__(self, path: Path) -> None:
        self._file = _JournalFile(str(path), _JournalLock(path))
        super().__init__(self._file)

    def hold(self) -> None:
        """Keep what this thread writes until it flushes that, which appends it in one go; it is not read before."""
        self._file.holder = threading.get_ident()

    @property
    def holds(self) -> bool:
        """Whether this thread has written something that is kept."""
        return self._file.is_held() and bool(self._file.held)

    def flush(self) -> None:
        """Append what is kept."""
        self._file.flush()

    def let_go(self) -> None:
        """Keep nothing more; what was not flushed is dropped."""
        self._file.holder, self._file.held = None, []


class _JournalFile(JournalFileBackend):
    """A journal to which one thread may append many lines at once: each append is a lock and a wait for the disk."""

    holder: int | None = None

    def __init__(self, path: str, lock: "_JournalLock") -> None:
        super().__init__(path, lock_obj=lock)  # type: ignore[arg-type]
        self.held: list[dict[str, Any]] = []

    def is_held(self) -> bool:
        return self.holder == threading.get_ident()

    def flush(self) -> None:
        super().append_logs(self.held)
        self.held = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self.is_held():
            self.held += logs
        else:
            super().append_logs(logs)


def cut_torn_line(journal: Path) -> int:
    """Cut a journal back to its last newline, under the lock that appends take, and return the bytes cut."""
    lock = _JournalLock(journal)
    before = journal.stat().st_size
    lock.acquire()
    try:
        return before - journal.stat().st_size
    finally:
        lock.release()


class _JournalLock:
    """The lock of an append. Optuna's own outlives a killed driver by 30 seconds; this one dies with it, see `locks`.

    Whoever takes it cuts off a last line torn by a kill or a full disk, which the next append would make unreadable
    for ever.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock(path.with_name(f"{path.name}.lock"), brief=True)

    def acquire(self) -> bool:
        self._lock.acquire()
        try:
            _cut(self._path)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()


def _cut(journal: Path) -> None:
    with journal.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        os.fsync(file.fileno())
