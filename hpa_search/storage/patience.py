"""Retry calls to a server that is out of reach or overloaded."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from hpa_search.errors import UserError

logger = logging.getLogger(__name__)

OUTAGE_SECONDS = 600.0
"""Seconds to wait for a server that does not answer."""
FIRST_SECONDS = 60.0
"""The same for the first answer, while a user waits: a mistyped address should fail soon."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
QUIET = 2.0
"""Shorter waits, in seconds, are not reported."""

T = TypeVar("T")
Say = Callable[[str], None]
IsTransient = Callable[[Exception], bool]


class Unreachable(UserError):  # noqa: N818  (named for the server's state)
    """A server did not answer before the patience ran out."""


def patiently(
    call: Callable[[], T],
    what: str,
    *,
    transient: IsTransient,
    seconds: float = OUTAGE_SECONDS,
    tell: Say = logger.warning,
    hint: str = "",
) -> T:
    """Return the result of ``call``, with the retries of `Patience`."""
    return Patience(what, transient=transient, seconds=seconds, tell=tell, hint=hint)(call)


class Patience:
    """Retries calls to one server.

    Threads may share it; an outage is then reported once. ``transient`` says of an exception whether waiting may mend it.
    Such a call is retried after pauses that grow to ``LONGEST_PAUSE`` seconds. It raises Unreachable once ``seconds`` have
    passed since the first attempt. Other exceptions are raised at once. ``tell`` gets a message when ``what`` stops
    answering, and when it answers again. ``hint`` says what a user can do about an outage.
    """

    def __init__(
        self, what: str, *, transient: IsTransient, seconds: float = OUTAGE_SECONDS, tell: Say = logger.warning, hint: str = ""
    ) -> None:
        self.what, self.seconds, self._hint = what, seconds, hint
        self._transient, self._tell = transient, tell
        self._lock, self._reported = threading.Lock(), False

    def __call__(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``. Raises Unreachable when the patience runs out."""
        began = time.monotonic()
        for pause in _pauses():
            try:
                found = call()
            except Exception as error:
                if not self._transient(error):
                    raise
                waited = time.monotonic() - began
                if waited + pause > self.seconds:
                    raise self._given_up(error, waited) from error
                self._report_outage(error, waited)
            else:
                self._report_recovery()
                return found
            time.sleep(pause)
        raise AssertionError("the pauses never end")

    def _report_outage(self, error: Exception, waited: float) -> None:
        with self._lock:
            if not self._reported and waited >= QUIET:
                self._reported = True
                self._tell(f"{self.what} does not answer ({_reason(error)}); trying again for {_duration(self.seconds)}.")

    def _report_recovery(self) -> None:
        with self._lock:
            if self._reported:
                self._reported = False
                self._tell(f"{self.what} answers again; continuing.")

    def _given_up(self, error: Exception, waited: float) -> Unreachable:
        more = f"; {self._hint}" if self._hint else ""
        return Unreachable(f"{self.what} did not answer for {_duration(waited)} ({_reason(error)}){more}")


def _pauses() -> Iterator[float]:
    """Yield growing pauses in seconds.

    Chance keeps many workers from returning at one moment.
    """
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.75, 1.25)
        pause = min(pause * 1.7, LONGEST_PAUSE)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
