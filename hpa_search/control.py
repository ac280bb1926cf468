"""Asking a search to pause, stop or go on for longer, from anywhere its folder can be seen."""

import time
from collections.abc import Callable
from pathlib import Path

from hpa_search.errors import UserError
from hpa_search.search import lease
from hpa_search.search.commands import Command, check_extension, send
from hpa_search.search.status import FINISHED, RESTS, read_status

# What reads a search file brings PyTorch along, seconds that a command to a running driver need not wait: it is imported late.

OBEYED_SECONDS = 30.0
"""How long a driver may take to hear of a command; the final stage hears of none."""

Say = Callable[[str], None]


def rest(out: Path, command: Command, *, wait: bool, say: Say) -> None:
    """Pause or stop the search in ``out``; ``wait`` for its driver's end.

    Where no driver is at work this is noted, and status says so. Raises UserError where there is no search.
    """
    word = {"pause": "paused", "stop": "stopped"}[command.wish]
    state = read_status(out)["state"]
    if state == "finished":
        say(f"The search in {out} is finished; there is nothing to {command.wish}.")
    elif state != "running":
        _note_rest(out, word, say)
        say(f"No driver is at work on {out}: {word}. To go on: hpa-search resume {out}")
    elif not _obeyed(send(out, command)):
        say(
            f"{out}: its driver has not answered for {OBEYED_SECONDS:.0f} s; it is in its final stage, or just gone: hpa-search status {out}"
        )
    else:
        when = "after the running epochs" if command.wish == "pause" else "now"
        say(f"The driver of {out} ends {when}. To go on: hpa-search resume {out}")
        if wait:
            _wait_for_end(out)
            say(f"{out}: {read_status(out)['state']}.")


def extend(out: Path, command: Command, say: Say) -> None:
    """Add to the budget of the search in ``out``, at once if it is running, else for when it goes on.

    Raises UserError if it has no budget of that kind.
    """
    from hpa_search.search.workspace import read_workspace

    search, _ = read_workspace(out)
    check_extension(search.budget, command, out)
    state = read_status(out)["state"]
    path = send(out, command)
    more = ", ".join(f"{value:g} {name}" for name, value in command.model_dump(exclude={"wish"}, exclude_defaults=True).items())
    if state == "running" and _obeyed(path):
        say(f"The search in {out} goes on for {more} more.")
    else:
        say(f"Extended by {more}; this counts as soon as the search goes on: hpa-search resume {out}")


def _obeyed(path: Path) -> bool:
    deadline = time.monotonic() + OBEYED_SECONDS
    while path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _note_rest(out: Path, word: str, say: Say) -> None:
    """Note it in the ledger, which only who holds the lease may write."""
    from hpa_search.search.workspace import read_workspace

    search, _ = read_workspace(out)
    held = lease.take(out, search.name, say=say)
    try:
        if not held.ledger.noted().get(FINISHED):
            held.ledger.note(RESTS, word)
    finally:
        held.release()


def _wait_for_end(out: Path) -> None:
    while read_status(out)["state"] == "running":
        time.sleep(1)


def remembered(out: Path, data: Path | None) -> tuple[Path, Path, Path | None]:
    """Return the search file, dataset and external images that the search in ``out`` was started with.

    ``data`` is where the dataset is now, if it was moved. Raises UserError where no search has begun.
    """
    from hpa_search.search.workspace import SEARCH, read_workspace

    _, provenance = read_workspace(out)
    external = Path(provenance.external.folder) if provenance.external else None
    found = data or Path(provenance.data)
    if not found.exists():
        raise UserError(f"{found}: the dataset of the search in {out} is not there any more; give its new place as --data")
    return out / SEARCH, found, external
