"""Rewrite messages about a local copy to name the user's place."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpa_search.errors import UserError
from hpa_search.storage.place import Place


def shown(text: str, folder: Path, place: Place) -> str:
    """Return ``text`` with paths in ``folder`` as places below ``place``."""
    if place.is_local and place.local == folder:
        return text

    def named(found: re.Match[str]) -> str:
        rest = found[1] or ""
        return str(place / rest.strip("/")) if rest.strip("/") else str(place)

    return re.sub(rf"{re.escape(str(folder))}(/[^\s,;:'\"()]*|(?![\w.-]))", named, text)


def showing(say: Callable[[str], None], folder: Path, place: Place) -> Callable[[str], None]:
    """Return ``say`` with its messages rewritten as by `shown`."""
    return lambda line: say(shown(line, folder, place))


@contextmanager
def naming(folder: Path, place: Place) -> Iterator[None]:
    """Rewrite a UserError that leaves the block, as `shown` does."""
    try:
        yield
    except UserError as error:
        error.args = tuple(shown(part, folder, place) if isinstance(part, str) else part for part in error.args)
        raise
