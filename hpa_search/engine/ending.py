"""Why a driver ends before its search does: a signal, a command, or trouble that no trial is to blame for."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Outcome = Literal["finished", "paused", "stopped", "interrupted"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a closed terminal: all end the driver in order."""
PATIENCE = 8.0
"""Seconds after a signal in which a driver ends in order; then its process ends at once, as by a kill, which loses nothing."""
INTERRUPTED = 130
"""The exit code of a command that a signal ended."""


class Interrupted(BaseException):  # noqa: N818  (named as KeyboardInterrupt is)
    """A signal came while the driver was starting, where there is nothing to bring to an end."""


class Ending:
    """What ends the driver, from whichever thread it comes; the first reason counts."""

    def __init__(self) -> None:
        self.outcome: Outcome = "interrupted"
        self.trouble: str | None = None
        self.is_starting = False
        self._now = threading.Event()
        self._told: list[Callable[[], None]] = []

    @property
    def now(self) -> bool:
        """Whether to end at once."""
        return self._now.is_set()

    def when_now(self, act: Callable[[], None]) -> None:
        """Have ``act`` called when the driver is to end; it must be quick, and may come from any thread."""
        self._told.append(act)

    def at_once(self, outcome: Outcome = "interrupted") -> None:
        """End now, because of a signal or a command."""
        if not self.now:
            self.outcome = outcome
        self._set()

    def because_of(self, trouble: str) -> None:
        """End now, because of ``trouble``; what comes after a signal or a command may be of that."""
        if not self.now:
            self.trouble = trouble
        self._set()

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Have a signal raise `Interrupted` in the main thread while the block runs, whatever it waits for."""
        self.is_starting = True
        try:
            yield
        except BaseException as error:  # Ray makes other errors of what is raised in its calls
            if self.now:
                raise Interrupted from error
            raise
        finally:
            self.is_starting = False

    def _set(self) -> None:
        self._now.set()
        for act in self._told:
            act()


@contextmanager
def signals(ending: Ending, last_resort: Callable[[], None]) -> Iterator[None]:
    """Take the first of `SIGNALS` as a wish to end; a second one ends the process as usual.

    If the block has not been left `PATIENCE` seconds later, ``last_resort`` is called from another thread, and the process
    ends. A hang-up that is ignored, as by nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number, handler in known.items() if number != signal.SIGHUP or handler != signal.SIG_IGN]
    timer = threading.Timer(PATIENCE, _leave, (last_resort,))
    timer.daemon = True

    def restore() -> None:
        for number in taken:
            signal.signal(number, known[number])

    def handle(number: int, frame: Any) -> None:
        restore()
        if timer.ident is None:
            timer.start()
        ending.at_once()
        if ending.is_starting:
            raise Interrupted

    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        timer.cancel()
        restore()


def _leave(last_resort: Callable[[], None]) -> None:
    try:
        last_resort()
    finally:
        os._exit(INTERRUPTED)
