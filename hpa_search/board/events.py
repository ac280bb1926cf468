"""Event files, which TensorBoard reads."""

import os
import socket
import threading
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

FOLDER = "tensorboard"
_VERSION = "brain.Event:2"


class EventFiles:
    """Writes events into one file for each run, named after the second in which it was begun.

    TensorBoard reads the files of a run in the order of their names. When a step comes again, it drops what it has read of later steps.
    Two files begun within one second may be read in the wrong order, so this process goes on in the file that it has begun. It keeps
    none open: a search may have more trials than a process may have open files.
    """

    def __init__(self, out: Path) -> None:
        """Write below the folder ``out`` of a search. Any thread may write."""
        self._folder = out / FOLDER
        self._files: dict[str, Path] = {}
        self._lock = threading.Lock()

    def has(self, run: str) -> bool:
        """Return whether there is a run of that name, also of an earlier driver."""
        return (self._folder / run).is_dir()

    def write(self, run: str, *summaries: Summary, step: int = 0) -> None:
        """Append ``summaries`` to the file of ``run``; readers see them at once."""
        now = time.time()
        with self._lock:
            self._append(run, now, [Event(wall_time=now, step=step, summary=summary) for summary in summaries])

    def _append(self, run: str, now: float, events: list[Event]) -> None:
        if run not in self._files:
            self._files[run] = self._folder / run / f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
            self._files[run].parent.mkdir(parents=True, exist_ok=True)
            events.insert(0, Event(wall_time=now, file_version=_VERSION))
        with self._files[run].open("ab") as file:
            records = RecordWriter(file)
            for event in events:
                records.write(event.SerializeToString())
