"""Waiting for a server that is out of reach or overloaded, and going on as if nothing had happened."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from hpa_search.errors import UserError

logger = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds after which a server that does not answer is given up."""
FIRST_SECONDS = 60.0
"""The same for the first answer, where somebody waits for it: a mistyped address should be told soon."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
QUIET = 2.0
"""Seconds of waiting that are not worth telling."""

T = TypeVar("T")
Tell = Callable[[str], None]
IsTransient = Callable[[Exception], bool]


class Unreachable(UserError):  # noqa: N818  (named for the server's state)
    """A server did not answer for as long as there was patience."""


def patiently(
    call: Callable[[], T],
    what: str,
    *,
    transient: IsTransient,
    seconds: float = PATIENCE,
    tell: Tell = logger.warning,
    hint: str = "",
) -> T:
    """Return what ``call`` returns, trying again while it raises what waiting may mend; see `Patience`."""
    return Patience(what, transient=transient, seconds=seconds, tell=tell, hint=hint)(call)


class Patience:
    """How calls to one server are tried again; threads may share it, and then an outage is told once.

    ``transient`` says of an exception whether waiting may mend it: then the call is made again after pauses that grow to
    ``LONGEST_PAUSE`` seconds, until ``seconds`` have passed since it was first made; everything else is raised at once.
    ``tell`` hears once that ``what`` is waited for and once that it goes on. ``hint`` says what a user can do about it.
    """

    def __init__(
        self, what: str, *, transient: IsTransient, seconds: float = PATIENCE, tell: Tell = logger.warning, hint: str = ""
    ) -> None:
        self.what, self.seconds, self._hint = what, seconds, hint
        self._transient, self._tell = transient, tell
        self._lock, self._told = threading.Lock(), False

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns. Raises Unreachable when there is no patience left."""
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
                self._waits(error, waited)
            else:
                self._goes_on()
                return found
            time.sleep(pause)
        raise AssertionError("the pauses never end")

    def _waits(self, error: Exception, waited: float) -> None:
        with self._lock:
            if not self._told and waited >= QUIET:
                self._told = True
                self._tell(f"{self.what} does not answer ({_reason(error)}); trying again for {_duration(self.seconds)}.")

    def _goes_on(self) -> None:
        with self._lock:
            if self._told:
                self._told = False
                self._tell(f"{self.what} answers again; going on.")

    def _given_up(self, error: Exception, waited: float) -> Unreachable:
        more = f"; {self._hint}" if self._hint else ""
        return Unreachable(f"{self.what} did not answer for {_duration(waited)} ({_reason(error)}){more}")


def _pauses() -> Iterator[float]:
    """Yield seconds that grow, with some chance in them: many workers should not come back at one moment."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.75, 1.25)
        pause = min(pause * 1.7, LONGEST_PAUSE)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
