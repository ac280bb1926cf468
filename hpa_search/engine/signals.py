"""Signals: the first one ends the driver in order, and within seconds."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hpa_search.interrupts import raised_again
from hpa_search.search.life import Life

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a closed terminal."""
ORDERLY_SECONDS = 8.0
"""How long an orderly end may take after a signal. Then the process ends at once, as by a kill, which loses nothing."""
INTERRUPTED = 130
"""The exit code of a command that a signal ended."""


class Interrupted(BaseException):  # noqa: N818  (named as KeyboardInterrupt is)
    """A signal came while the driver was starting and had nothing to end in order."""


class Signals:
    """While it is entered, the first of `SIGNALS` ends ``life``, and a second one ends the process as usual.

    If it has not been left `ORDERLY_SECONDS` after the first signal, another thread calls ``last_resort`` and ends the process.
    A hang-up that is ignored, as by nohup, stays ignored. Outside the main thread, which alone gets signals, nothing changes.
    """

    def __init__(self, life: Life, last_resort: Callable[[], None]) -> None:
        self._life, self._interrupts = life, False
        self._before: dict[int, Any] = {}
        self._timer = threading.Timer(ORDERLY_SECONDS, _leave, (last_resort,))
        self._timer.daemon = True

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            known = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {
                number: handler for number, handler in known.items() if number != signal.SIGHUP or handler != signal.SIG_IGN
            }
            for number in self._before:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._timer.cancel()
        self._restore()

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Have a signal raise `Interrupted` in the main thread while the block runs, whatever that thread waits for.

        Ray turns an exception that is raised within its calls into one of its own; that becomes `Interrupted` again here.
        """
        self._interrupts = True
        try:
            with raised_again(Interrupted):
                yield
        except BaseException as error:
            if self._life.is_ending:
                raise Interrupted from error
            raise
        finally:
            self._interrupts = False

    def _handle(self, number: int, frame: Any) -> None:
        self._restore()
        if self._timer.ident is None:
            self._timer.start()
        self._life.end()
        if self._interrupts:
            raise Interrupted

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _leave(last_resort: Callable[[], None]) -> None:
    try:
        last_resort()
    finally:
        os._exit(INTERRUPTED)
