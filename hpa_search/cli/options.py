"""What the commands share: their options, and how a fault is told."""

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
    """What the user can mend: told in one message, with exit code 2 or that of the cluster's answer."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class _Given(click.ParamType):
    """Text that names a file, a folder or a search: an empty one is refused, as of a variable that is not set."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text as it is."""
        if isinstance(value, str) and not value.strip():
            name = _name(param) if param else "a path"
            raise Fault(f"{name}: is empty; give a path (is a variable of the command not set?)")
        return value


class _Folder(_Given):
    """A path of this machine."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return Path(super().convert(value, param, ctx))


class _Place(_Given):
    """A path, or the URL of a folder or file in an object store."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the place of the URL."""
        from hpa_search.storage.place import Place

        try:
            return Place.of(super().convert(value, param, ctx)).plain
        except UserError as error:
            raise Fault(str(error)) from None


def _name(param: click.Parameter) -> str:
    """Return how a user writes an option, or the argument in the help text."""
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
            raise Fault(f"{error}{_if_gone()}", getattr(error, "exit_code", 2)) from None
        except Exception as error:
            # Whoever reads standard output no more need not be told.
            if not is_refusal(error) or (isinstance(error, BrokenPipeError) and path_of(error) is None):
                raise
            raise Fault(message(error, option=_moved_by(error))) from None

    return command


def _if_gone() -> str:
    """Return what is to be said as well where the current folder is gone, so that no relative path can be found."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return f"\n{GONE.what.capitalize()}; {GONE.remedy}"
    return ""


def _moved_by(error: Exception) -> str:
    """Return the option of the running command, or the variable, that says where the path is which ``error`` names."""
    where, context = path_of(error), click.get_current_context(silent=True)
    if where is None or context is None:
        return ""
    given = [(param, context.params.get(param.name or "")) for param in context.command.params if isinstance(param.type, _Given)]
    paths = [(param, path) for param, value in given for path in (value if isinstance(value, tuple) else (value,))]
    known = [(str(path), param) for param, path in paths if isinstance(path, Path | str) and is_within(where, path)]
    if known:
        param = max(known, key=lambda one: len(one[0]))[1]
        return CACHE_OPTIONS if param.name == "cache" else _name(param)
    return "TMPDIR" if any(part.startswith(TEMPORARY) for part in Path(where).parts) else ""


def console_here(*, aside: bool = False) -> Console:
    """Return the console that commands write to: standard output, or standard error if ``aside``."""
    return Console(soft_wrap=True, stderr=aside)


def is_standard_output(*places: Any) -> bool:
    """Whether one of these paths is this process's standard output, so that nothing else may be said there."""
    return any(isinstance(place, Path) and Destination.of(place).descriptor == 1 for place in places)
