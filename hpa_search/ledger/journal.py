"""The ledger as a journal file. Its lock dies with its holder, and no line is appended to a torn line."""

import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hpa_search.locks import Lock

JOURNAL = "study.journal"


def open_journal(path: Path) -> JournalStorage:
    """Return Optuna's storage in the journal at ``path``. Create a missing journal."""
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))  # type: ignore[arg-type]


def cut_torn_line(journal: Path) -> int:
    """Cut a journal back to its last newline, under the lock of appends. Return the number of bytes cut."""
    lock = _JournalLock(journal)
    before = journal.stat().st_size
    lock.acquire()
    try:
        return before - journal.stat().st_size
    finally:
        lock.release()


class _JournalLock:
    """The lock of an append. Optuna's lock outlives a killed driver by 30 seconds; this lock dies with it, see `locks`.

    `acquire` cuts off a last line torn by a kill or a full disk. The next append would make that line unreadable for ever.
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
