"""Why a driver ends before its search does: a signal, a command, or trouble that no trial is to blame for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

Outcome = Literal["finished", "paused", "stopped", "interrupted"]


class Ending:
    """What ends the driver, from whichever thread it comes; the first reason counts."""

    def __init__(self) -> None:
        self.outcome: Outcome = "interrupted"
        self.trouble: str | None = None
        self._now = threading.Event()

    @property
    def now(self) -> bool:
        """Whether to end at once."""
        return self._now.is_set()

    def at_once(self, outcome: Outcome = "interrupted") -> None:
        """End now, because of a signal or a command."""
        if not self.now:
            self.outcome = outcome
        self._now.set()

    def because_of(self, trouble: str) -> None:
        """End now, because of ``trouble``."""
        self.trouble = self.trouble or trouble
        self._now.set()


@contextmanager
def signals(ending: Ending) -> Iterator[None]:
    """Take the first Ctrl-C or SIGTERM as a wish to stop; a second one ends the process as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        ending.at_once()
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
