"""What the commands share that run a search in their own process: how they begin, and how they end."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

INTERRUPTED = 130


def prepare(ray_address: str | None) -> None:
    """Set the environment for the Ray at ``ray_address``, None for a local one, and say what a local one will not see.

    Call it before anything imports Ray, which reads the environment then.
    """
    from hpa_search.search.surroundings import settle

    if dropped := settle(ray_address):
        click.echo(f"The local Ray does not see these variables: {', '.join(dropped)}")


def leave(outcome: str) -> NoReturn:
    """End the process with exit code 130 if the search was interrupted, else 0.

    After an interrupt at once: Python would first take apart everything that was imported, which takes seconds that somebody
    waits for, and threads may still be in calls to a Ray that is gone.
    """
    if outcome != "interrupted":
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(INTERRUPTED)
