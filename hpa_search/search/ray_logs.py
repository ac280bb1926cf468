"""The last lines that Ray's processes wrote, for messages about what does not come up."""

import re
from pathlib import Path

MOST_LINES = 8
LONGEST = 300
_MARKS = re.compile(r":(job_id|actor_name|task_name):")
"""What Ray writes into each worker's log by itself."""

_ERROR = re.compile(r"(\w+\.)*\w+(Error|Exception|Exit|Interrupt)(:|$)")
"""The last line of a traceback."""

_KINDS = ("raylet.err", "worker-*.err", "gcs_server.err", "gcs_server.out", "dashboard.err", "raylet.out")
"""Where a fault is told, the most telling first: a Python that ends while it imports says so in raylet.err."""


def last_words(folder: Path) -> str:
    """Return the last lines of the most telling log of the Ray whose folder is ``folder``; empty if there is none.

    Each line is indented and starts on a line of its own.
    """
    for kind in _KINDS:
        for path in sorted(folder.glob(f"session_2*/logs/{kind}"), key=_changed, reverse=True):
            if lines := _lines(path):
                return "".join(f"\n  {line[:LONGEST]}" for line in [f"{path.name}:", *lines[-MOST_LINES:]])
    return ""


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


def worker_faults(folder: Path) -> list[str]:
    """Return the errors of Python's that a worker which has not come up has left in the log of the raylet that started it."""
    found = [line for path in folder.glob("session_2*/logs/raylet.err") for line in _lines(path)]
    return [line for line in found if _ERROR.match(line)]
