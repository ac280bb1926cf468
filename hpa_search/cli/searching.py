"""How a command that runs a search in its own process ends."""

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

INTERRUPTED = 130


def leave(outcome: str) -> NoReturn:
    """Exit with code 130 if the search was interrupted, else with 0."""
    if outcome == "interrupted":
        leave_at_once()
    sys.exit(0)


def leave_at_once() -> NoReturn:
    """Exit with code 130 without waiting for other threads.

    Python's own exit waits for threads that decode images or call a lost Ray. It also takes apart every imported module.
    The user would wait for both.
    """
    if threading.active_count() == 1:
        sys.exit(INTERRUPTED)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(INTERRUPTED)
