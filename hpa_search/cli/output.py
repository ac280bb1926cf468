"""What a command prints: every character can be printed, and long work goes on when nobody reads it any more.

A closed terminal, a reader of a pipe that has left, and a full disk under a log make each later write fail. A search writes
its own log into OUT, and needs no other.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TextIO, cast

STREAMS = ("stdout", "stderr")


class Stream:
    """A standard stream that, once it is ``patient``, takes what cannot be written for written.

    It is `sys.stdout` or `sys.stderr` in all else.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.patient = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``; return its length. What a slow reader of a pipe that does not block has no room for is lost."""
        with self._heard():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all ``lines``."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Bring what was written to where it goes."""
        with self._heard():
            self._stream.flush()

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:  # the reader is there, and may have room again
            if not self.patient:
                raise
        except (OSError, ValueError):  # ValueError: it was closed
            if not self.patient:
                raise
            self._leave()

    def _leave(self) -> None:
        """Lead this stream into nothing, with what it still holds and what other code writes to its file."""
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Have standard streams that print any text while the block runs; a character that their encoding lacks is escaped.

    Streams that are closed from the start lead into nothing: else the next file that is opened would be in their place.
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
    """Have ``command`` go on when what it prints cannot be written any more."""

    @wraps(command)
    def patient(*arguments: Any, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, Stream):
                stream.patient = True
        return command(*arguments, **options)

    return patient


def _fill_gaps() -> None:
    """Open what is closed of the first three files."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
