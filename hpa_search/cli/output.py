"""Standard streams that print every character, and outlast their reader.

Every write fails once a terminal closes, a pipe's reader leaves or a disk fills up. A search continues: it has a log in OUT.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TextIO, cast

STREAMS = ("stdout", "stderr")


class Stream:
    """`sys.stdout` or `sys.stderr`; once ``patient``, it drops output that cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.patient = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``; return its length. A full non-blocking pipe loses the part that it has no room for."""
        with self._heard():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        with self._heard():
            self._stream.flush()

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:  # the reader is slow, not gone: later output may still arrive
            if not self.patient:
                raise
        except (OSError, ValueError):  # ValueError: it was closed
            if not self.patient:
                raise
            self._leave()

    def _leave(self) -> None:
        """Point the file of the stream at /dev/null. Buffered text and other writers of that file go there too."""
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make the standard streams print any text while the block runs. Characters outside the encoding are escaped.

    A stream that is closed from the start is opened on /dev/null. Otherwise the next opened file takes its number.
    """
    _fill_gaps()
    before = {name: getattr(sys, name) for name in STREAMS}
    for name, stream in before.items():
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast(TextIO, Stream(stream)))
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


def unwatched(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``command`` continue when its output can no longer be written."""

    @wraps(command)
    def patient(*arguments: Any, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, Stream):
                stream.patient = True
        return command(*arguments, **options)

    return patient


def _fill_gaps() -> None:
    """Open each closed one of the file descriptors 0 to 2 on /dev/null."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
