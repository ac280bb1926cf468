"""Waiting for a server that is away: a search outlives the restart of what it writes to."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hpa_search.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
QUIET_SECONDS = 2.0
"""What is over sooner is not worth a word."""


class UnreachableError(UserError):
    """A server stayed away for as long as it was waited for."""


@dataclass(frozen=True)
class Wait:
    """How long a server that does not answer is asked again, in seconds, and who is told."""

    seconds: float = 600.0
    say: Callable[[str], None] = logger.warning


def patiently(call: Callable[[], T], what: str, *, transient: Callable[[Exception], bool], wait: Wait) -> T:
    """Return what ``call`` returns, calling it again while it raises what is ``transient``.

    ``call`` must bear being repeated after it has done its work. Says that it waits for ``what``, once, and that it goes on.
    Raises what ``call`` raised last when ``wait.seconds`` are over, and everything that is not transient at once.
    """
    began, pause, told = time.monotonic(), FIRST_PAUSE, False
    while True:
        try:
            result = call()
        except Exception as error:
            waited = time.monotonic() - began
            if not transient(error) or waited >= wait.seconds:
                raise
            if waited >= QUIET_SECONDS and not told:
                told = True
                wait.say(f"{what} does not answer; waiting for it, for {wait.seconds / 60:.0f} min at most ({error})")
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2
        else:
            if told:
                wait.say(f"{what} answers again, after {time.monotonic() - began:.0f} s")
            return result
