"""How a command that runs a search in its own process ends."""

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

INTERRUPTED = 130


def leave(outcome: str) -> NoReturn:
    """End the process with exit code 130 if the search was interrupted, else 0."""
    if outcome == "interrupted":
        leave_at_once()
    sys.exit(0)


def leave_at_once() -> NoReturn:
    """End the process with exit code 130, without waiting for its threads.

    Python would wait for those that decode images, and take apart everything that was imported, while somebody waits; and
    some may be in calls to a Ray that is gone.
    """
    if threading.active_count() == 1:
        sys.exit(INTERRUPTED)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(INTERRUPTED)
