"""Signals: the first one ends the driver in order, and within seconds."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hpa_search.search.life import Life, State

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a closed terminal."""
ORDERLY_SECONDS = 8.0
"""How long an orderly end may take after a signal. Then the process ends at once, as by a kill, which loses nothing."""
AGAIN_SECONDS = 0.05
"""How soon `Interrupted` is raised again if Python dropped it."""
INTERRUPTED = 130
"""The exit code of a command that a signal ended."""


class Interrupted(BaseException):  # noqa: N818  (named as KeyboardInterrupt is)
    """A signal came while the driver was starting and had nothing to end in order."""


@contextmanager
def interruptible(life: Life) -> Iterator[None]:
    """Run the start of a driver. While it is STARTING, a signal raises `Interrupted` in the main thread, whatever that waits for.

    Ray turns an exception within its calls into an exception of its own, which becomes `Interrupted` again here.
    """
    try:
        with _raised_again():
            yield
    except BaseException as error:
        if life.is_ending:
            raise Interrupted from error
        raise


@contextmanager
def _raised_again() -> Iterator[None]:
    """Raise `Interrupted` once more where Python has dropped it.

    Python only reports what a signal's handler raises in a callback, such as those around a fork, and runs on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise Interrupted

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, Interrupted):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            report(what)

    report, alarm = sys.unraisablehook, signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        sys.unraisablehook = report


@contextmanager
def signals(life: Life, last_resort: Callable[[], None]) -> Iterator[None]:
    """End ``life`` at the first of `SIGNALS`; a second signal ends the process as usual.

    If the block has not been left `ORDERLY_SECONDS` later, another thread calls ``last_resort`` and ends the process. A
    hang-up that is ignored, as by nohup, stays ignored. Outside the main thread, which alone gets signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number, handler in known.items() if number != signal.SIGHUP or handler != signal.SIG_IGN]
    timer = threading.Timer(ORDERLY_SECONDS, _leave, (last_resort,))
    timer.daemon = True

    def restore() -> None:
        for number in taken:
            signal.signal(number, known[number])

    def handle(number: int, frame: Any) -> None:
        restore()
        if timer.ident is None:
            timer.start()
        was_starting = life.state is State.STARTING
        life.end()
        if was_starting:
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
