"""The one error that users read."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave is wrong. The message says what, where, and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the known word nearest to ``word``, or an empty string."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""
