"""Faults of a dataset, collected so that one error reports them all."""

from collections.abc import Iterable
from pathlib import Path

from hpa_search.errors import UserError

SHOWN = 50
"""Faults that one message prints; the others are counted."""
LONGEST = 300
"""Characters kept of one fault: a damaged file may hold a line of any length."""


class DatasetFaults(UserError):  # noqa: N818  (a list of faults, not one error)
    """All faults of a dataset as one error, one line each.

    ``where`` is the folder or file that was read. Each of ``faults`` names its file and, in a table, its line.
    """

    def __init__(self, where: Path | str, faults: Iterable[str]) -> None:
        self.where = str(where)
        self.faults = tuple(one_line(fault) for fault in faults)
        count = len(self.faults)
        lines = [f"{one_line(self.where)} has {count} {'fault' if count == 1 else 'faults'}; correct the files and try again:"]
        lines += [f"  {fault}" for fault in self.faults[:SHOWN]]
        if count > SHOWN:
            lines.append(f"  ... and {count - SHOWN} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type["DatasetFaults"], tuple[str, tuple[str, ...]]]:
        # Pickle rebuilds an exception from its message alone, which this constructor does not take.
        return type(self), (self.where, self.faults)


def one_line(text: str) -> str:
    """Return ``text`` with unprintable characters escaped, cut to `LONGEST` characters."""
    kept = text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in kept)


def missing(path: Path) -> str:
    """Return "missing" for ``path``, with the reason.

    A reason is a broken link, or a file that differs only in case.
    """
    try:
        alike = {there.name for there in path.parent.iterdir() if there.name.lower() == path.name.lower()}
    except OSError:
        return "missing"
    if path.name in alike:
        return "missing (a broken link)"
    return f"missing, but '{min(alike)}' is here: rename it" if alike else "missing"
