"""Options that commands share, and how a refusal reaches the user."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from hpa_search.errors import UserError
from hpa_search.files import TEMPORARY, Destination
from hpa_search.system_errors import CACHE as CACHE_OPTIONS
from hpa_search.system_errors import GONE, is_refusal, is_within, message, path_of


class Fault(click.ClickException):
    """A refusal, printed as one message. The exit code is 2, or the code of a command on a cluster."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class _Given(click.ParamType):
    """Text that names a file, a folder or a search. Empty text is refused: a shell variable may be unset."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text unchanged. Raises Fault where it is empty."""
        if isinstance(value, str) and not value.strip():
            name = _name(param) if param else "a path"
            raise Fault(f"{name}: is empty; give a path (is a variable of the command not set?)")
        return value


class _Folder(_Given):
    """A path on this machine."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises Fault for empty text."""
        return Path(super().convert(value, param, ctx))


class _Place(_Given):
    """A path on this machine, or a URL in an object store."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the place of the URL. Raises Fault for empty text and for a malformed URL."""
        from hpa_search.storage.place import Place

        try:
            return Place.of(super().convert(value, param, ctx)).plain
        except UserError as error:
            raise Fault(str(error)) from None


def _name(param: click.Parameter) -> str:
    """Return the name of an option or argument as the user knows it."""
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name


def _default_cache() -> Path:
    from hpa_search.storage.data_cache import default_cache

    return default_cache()


GIVEN = _Given()
FOLDER = _Folder()
PLACE = _Place()
CACHE = click.option(
    "--cache",
    type=FOLDER,
    default=_default_cache,
    help="Folder for decoded images, on a local disk.  [default: $HPA_SEARCH_CACHE or ~/.cache/hpa-search]",
)

STUDY = click.option(
    "--study",
    default=None,
    help="Database for the ledger, such as postgresql://user@host/name; password in $PGPASSWORD.  [default: a journal in OUT]",
)


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Print a UserError or a system error as one message, and exit with code 2."""

    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except UserError as error:
            raise Fault(f"{error}{_if_gone()}", getattr(error, "exit_code", 2)) from None
        except Exception as error:
            # The reader of standard output has left, so no message can reach it.
            if not is_refusal(error) or (isinstance(error, BrokenPipeError) and path_of(error) is None):
                raise
            raise Fault(message(error, option=_moved_by(error))) from None

    return command


def _if_gone() -> str:
    """Return a line to add where the current folder is gone; every relative path fails then."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return f"\n{GONE.what.capitalize()}; {GONE.remedy}"
    return ""


def _moved_by(error: Exception) -> str:
    """Return the option or environment variable that moves the path in ``error``, or an empty text."""
    where, context = path_of(error), click.get_current_context(silent=True)
    if where is None or context is None:
        return ""
    given = [(param, context.params.get(param.name or "")) for param in context.command.params if isinstance(param.type, _Given)]
    paths = [(param, path) for param, value in given for path in (value if isinstance(value, tuple) else (value,))]
    known = [(str(path), param) for param, path in paths if isinstance(path, Path | str) and is_within(where, path)]
    # The longest of several paths is the nearest.
    if known:
        param = max(known, key=lambda one: len(one[0]))[1]
        return CACHE_OPTIONS if param.name == "cache" else _name(param)
    return "TMPDIR" if any(part.startswith(TEMPORARY) for part in Path(where).parts) else ""


def console_here(*, aside: bool = False) -> Console:
    """Return a console on standard output, or on standard error if ``aside``."""
    return Console(soft_wrap=True, stderr=aside)


def is_standard_output(*places: Any) -> bool:
    """Whether one of these paths is standard output, where messages would spoil the data."""
    return any(isinstance(place, Path) and Destination.of(place).descriptor == 1 for place in places)
