"""The group of all commands: standard streams, and exit code 130 after a signal."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from hpa_search.cli.options import Fault
from hpa_search.cli.output import standard_streams
from hpa_search.cli.searching import leave_at_once
from hpa_search.interrupts import raised_again


class Program(click.Group):
    """A group of commands. Each can print any text, and a signal ends it in order with exit code 130."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command that the ``arguments`` name."""
        with standard_streams():
            return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C, SIGTERM and a closed terminal raise KeyboardInterrupt in it."""
        came: list[int] = []
        try:
            with _signals(came), raised_again(KeyboardInterrupt):
                _check_folder()
                return super().invoke(ctx)
        except BaseException:
            # Libraries turn a KeyboardInterrupt into errors of their own, as when it comes while a class is made.
            if not came:
                raise
            with suppress(OSError):  # the terminal may be gone
                click.echo("Interrupted.", err=True)
            leave_at_once()


def _check_folder() -> None:
    """Refuse a removed current folder: libraries end the process when they ask for its name."""
    try:
        Path.cwd()
    except OSError:
        raise Fault("the current folder is gone; cd to one that exists, then give the same command again") from None


@contextmanager
def _signals(came: list[int]) -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGTERM and SIGHUP too, so that a command clears away unfinished work.

    The signal's number is appended to ``came``.
    An ignored SIGHUP stays ignored, as under nohup. An ignored SIGINT is handled: scripts start background jobs that way.
    """
    # Python sets handlers in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if not (number == signal.SIGHUP and handler == signal.SIG_IGN):
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
