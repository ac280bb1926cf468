"""Why a driver ends before its search does: a signal, a command, or trouble that no trial is to blame for."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Outcome = Literal["finished", "paused", "stopped", "interrupted"]


class Ending:
    """What ends the driver, from whichever thread it comes; the first reason counts."""

    def __init__(self) -> None:
        self.outcome: Outcome = "interrupted"
        self.trouble: str | None = None
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
        """End now, because of ``trouble``."""
        self.trouble = self.trouble or trouble
        self._set()

    def _set(self) -> None:
        self._now.set()
        for act in self._told:
            act()


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
