"""Interrupts that Python would drop."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AGAIN_SECONDS = 0.05
"""How soon a dropped exception is raised again."""


@contextmanager
def raised_again(kind: type[BaseException]) -> Iterator[None]:
    """Raise ``kind``, which a signal's handler raises, once more where Python has dropped it.

    Python only reports what is raised in a callback, such as those around a fork, and runs on. The process's alarm is used in
    that case only, and set again afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    report = sys.unraisablehook
    before: list[tuple[Any, float]] = []
    """The handler of SIGALRM, and the seconds that its timer had left, once both have been replaced."""

    def interrupt(number: int, frame: Any) -> None:
        raise kind

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if not isinstance(what.exc_value, kind):
            report(what)
            return
        handler = signal.signal(signal.SIGALRM, interrupt)
        left, _ = signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        if not before:
            before.append((handler, left))

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = report
        for handler, left in before:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, left)
