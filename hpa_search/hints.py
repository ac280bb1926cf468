"""Commands that a message tells its reader to type."""

import shlex


def command(*words: object) -> str:
    """Return the command line `hpa-search` with these ``words``, quoted where a shell would part them."""
    return shlex.join(["hpa-search", *map(str, words)])
