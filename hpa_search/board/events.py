"""Event files, which TensorBoard reads."""

import os
import socket
import threading
import time
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from hpa_search.storage.opened import WorkingCopy

FOLDER = "tensorboard"
_VERSION = "brain.Event:2"
_ENDED = ".ended"


class EventFiles:
    """Writes events into one file for each run, named after the second in which it was begun.

    TensorBoard reads the files of a run in the order of their names. When a step comes again, it drops what it has read of later steps.
    Two files begun within one second may be read in the wrong order, so this process goes on in the file that it has begun. It keeps
    none open: a search may have more trials than a process may have open files.

    How a run ended is a file of its own, since of several ends TensorBoard takes the first. If the run goes on, that file is emptied: a
    TensorBoard that has read it shows the old end until it is started again, and others none. What is written after the end begins
    another file, since TensorBoard never returns to one that it has left.
    """

    def __init__(self, out: WorkingCopy | Path) -> None:
        """Write below the folder ``out`` of a search. Any thread may write."""
        self._work = WorkingCopy.of(out)
        self._files: dict[str, Path] = {}
        self._begun = 0
        self._lock = threading.Lock()

    @cached_property
    def _runs(self) -> dict[str, list[str]]:
        """The names of the files of earlier drivers and of this one that tell an end, by run. A run without an end has no names."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, size in self._work.sizes(FOLDER).items():
            of_run = found[Path(name).parent.relative_to(FOLDER).as_posix()]
            if name.endswith(_ENDED) and size:
                of_run.append(name)
        return found

    def has(self, run: str) -> bool:
        """Return whether there is a run of that name, also of an earlier driver."""
        return run in self._runs or run in self._files

    def has_end(self, run: str) -> bool:
        """Return whether it is told how a run has ended."""
        return bool(self._runs.get(run))

    def write(self, run: str, *summaries: Summary, step: int = 0) -> None:
        """Append ``summaries`` to the file of ``run``; readers see them at once."""
        now = time.time()
        with self._lock:
            self._append(run, now, [Event(wall_time=now, step=step, summary=summary) for summary in summaries])

    def end(self, run: str, summary: Summary) -> None:
        """Write the ``summary`` that tells how ``run`` has ended."""
        now = time.time()
        with self._lock:
            path = self._files[run] = self._new_file(run, now, _ENDED)
            try:
                self._append(run, now, [_version(now), Event(wall_time=now, summary=summary)])
            finally:
                del self._files[run]
            self._runs.setdefault(run, []).append(path.relative_to(self._work.folder).as_posix())

    def take_back_end(self, run: str) -> None:
        """Empty what tells how ``run`` has ended, if anything does: it goes on. Raises OSError or UserError if that cannot be written."""
        with self._lock:
            for name in self._runs.get(run, []):
                self._work.empty(name)
            self._runs[run] = []

    def _append(self, run: str, now: float, events: list[Event]) -> None:
        if run not in self._files:
            self._files[run] = self._new_file(run, now)
            events.insert(0, _version(now))
        with self._files[run].open("ab") as file:
            records = RecordWriter(file)
            for event in events:
                records.write(event.SerializeToString())

    def _new_file(self, run: str, now: float, suffix: str = "") -> Path:
        folder = self._work.folder / FOLDER / run
        folder.mkdir(parents=True, exist_ok=True)
        self._begun += 1
        return folder / f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{self._begun:09d}{suffix}"


def _version(now: float) -> Event:
    return Event(wall_time=now, file_version=_VERSION)
