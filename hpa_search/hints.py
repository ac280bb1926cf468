"""Commands that a message asks its reader to type."""

import shlex


def command(*words: object) -> str:
    """Return the command line `hpa-search` with these ``words``, quoted for a shell."""
    return shlex.join(["hpa-search", *map(str, words)])
