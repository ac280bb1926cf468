"""OUT/search.log: every line that a search has said, with its time."""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

LOG = "search.log"


class SearchLog:
    """Appends lines with their times. Lines from before `open` are kept until then.

    A log that cannot be written does not end the search: the line is lost.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._waiting: list[str] = []

    def open(self, folder: Path) -> None:
        """Write to the log in ``folder`` from now on."""
        self._path = folder / LOG
        self._append("".join(self._waiting))
        self._waiting = []

    def write(self, text: str) -> None:
        """Append ``text``, of one or more lines, with the time."""
        line = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z} {text}\n"
        if self._path is None:
            self._waiting.append(line)
        else:
            self._append(line)

    def _append(self, lines: str) -> None:
        assert self._path is not None
        with suppress(OSError), open(self._path, "a", encoding="utf-8", errors="backslashreplace", opener=_at_once) as file:  # noqa: PTH123
            file.write(lines)


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a pipe without a reader is refused."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)
