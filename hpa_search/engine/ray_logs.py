"""The last lines of Ray's logs, for messages about processes that do not start."""

import re
from pathlib import Path

MOST_LINES = 8
LONGEST = 300
_MARKS = re.compile(r":(job_id|actor_name|task_name):")
"""Lines that Ray itself writes into each worker's log."""
_ERROR = re.compile(r"(\w+\.)*\w+(Error|Exception|Exit|Interrupt)(:|$)")
"""The last line of a traceback."""
_KINDS = ("raylet.err", "worker-*.err", "gcs_server.err", "gcs_server.out", "dashboard.err", "raylet.out")
"""The logs that report faults, the most telling first. A Python that dies in an import says so in raylet.err."""


class RayLogs:
    """The logs of a local Ray, below its ``folder``. The logs of a joined Ray are on its nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def last_words(self) -> str:
        """Return the last lines of the most telling log, a line each, or where else to look."""
        for kind in _KINDS:
            for path in sorted(self._files(kind), key=_changed, reverse=True):
                if lines := _lines(path):
                    return "".join(f"\n  {line[:LONGEST]}" for line in [f"{path.name}:", *lines[-MOST_LINES:]])
        return " nothing here; Ray's logs are on its nodes"

    def faults(self) -> list[str]:
        """Return the Python errors of workers that did not start."""
        return [line for path in self._files("raylet.err") for line in _lines(path) if _ERROR.match(line)]

    def _files(self, kind: str) -> list[Path]:
        return list(self._folder.glob(f"session_2*/logs/{kind}"))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip() and not _MARKS.match(line)]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
