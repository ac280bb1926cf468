"""What the commands share: their options, and how a fault is told."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from hpa_search.errors import UserError


class Fault(click.ClickException):
    """What the user can mend: told in one message, with exit code 2 or that of the cluster's answer."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


FOLDER = click.Path(path_type=Path)


class _Place(click.ParamType):
    """A path, or the URL of a folder or file in an object store."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the place of the URL."""
        from hpa_search.storage.place import Place

        try:
            return Place.of(value).plain
        except UserError as error:
            raise Fault(str(error)) from None


PLACE = _Place()
CACHE = click.option(
    "--cache",
    type=FOLDER,
    default=lambda: Path(os.environ.get("HPA_SEARCH_CACHE", "~/.cache/hpa-search")).expanduser(),
    help="Where decoded images are kept, local to the machine (default: $HPA_SEARCH_CACHE or ~/.cache/hpa-search).",
)

STUDY = click.option(
    "--study",
    default=None,
    help="A database for the ledger instead of a journal in OUT, such as postgresql://user@host/database (password: PGPASSWORD).",
)


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show a UserError, or what the system refused, as one message and exit with code 2."""

    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except UserError as error:
            raise Fault(str(error), getattr(error, "exit_code", 2)) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise Fault(f"{place}{error.strerror or error}; free the place or name another") from None

    return command


def console_here() -> Console:
    """Return the console that commands write to."""
    return Console(soft_wrap=True)
