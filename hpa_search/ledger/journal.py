"""The ledger as a journal file: a lock that dies with its holder, and no torn line under what is appended."""

import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hpa_search.locks import Lock

JOURNAL = "study.journal"


def open_journal(path: Path) -> JournalStorage:
    """Return Optuna's storage on the journal at ``path``, which is created where there is none."""
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))  # type: ignore[arg-type]


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
