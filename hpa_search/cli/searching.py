"""What the commands share that run a search in their own process: how they begin, and how they end."""

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

import click

INTERRUPTED = 130


def prepare(ray_address: str | None) -> None:
    """Set the environment for the Ray at ``ray_address``, None for a local one, and say what a local one will not see.

    Call it before anything imports Ray, which reads the environment then.
    """
    from hpa_search.engine.surroundings import settle

    if dropped := settle(ray_address):
        click.echo(f"The local Ray does not see these variables: {', '.join(dropped)}")


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
