"""Asking a search to pause, stop or go on for longer, from anywhere its folder can be seen."""

import time
from collections.abc import Callable
from pathlib import Path

from hpa_search.engine.commands import COMMANDS, Command, CommandBox, check_extension
from hpa_search.errors import UserError
from hpa_search.hints import command as to_type
from hpa_search.layout import SEARCH
from hpa_search.ledger import lease
from hpa_search.ledger.status import FINISHED, RESTS, read_status
from hpa_search.storage.opened import Opened
from hpa_search.storage.place import Location, Place

# What reads a search file brings PyTorch along, seconds that a command to a running driver need not wait: it is imported late.

OBEYED_SECONDS = 30.0
"""How long a driver may take to hear of a command; the final stage hears of none."""

Say = Callable[[str], None]


def rest(work: Opened, command: Command, *, wait: bool, say: Say, coming: bool = False) -> None:
    """Pause or stop the search in ``work``; ``wait`` for its driver's end.

    Where no driver is at work this is noted, and status says so, unless one is ``coming`` up. Raises UserError where there is
    no search.
    """
    out, word = work.place, {"pause": "paused", "stop": "stopped"}[command.wish]
    state = read_status(work.folder)["state"]
    if state == "finished":
        say(f"The search in {out} is finished; there is nothing to {command.wish}.")
    elif state != "running" and coming:
        say(f"The driver of {out} is coming up and takes no commands yet.")
    elif state != "running":
        _note_rest(work.folder, word, say)
        say(f"No driver is at work on {out}: {word}. To go on: {to_type('resume', out)}")
    elif not _obeyed(work, command):
        say(
            f"{out}: its driver has not answered for {OBEYED_SECONDS:.0f} s; it is in its final stage, or just gone: "
            f"{to_type('status', out)}"
        )
    else:
        when = "after the running epochs" if command.wish == "pause" else "now"
        say(f"The driver of {out} ends {when}. To go on: {to_type('resume', out)}")
        if wait:
            _wait_for_end(work.folder)
            say(f"{out}: {read_status(work.folder)['state']}.")


def extend(work: Opened, command: Command, say: Say) -> None:
    """Add to the budget of the search in ``work``, at once if it is running, else for when it goes on.

    Raises UserError if it has no budget of that kind.
    """
    from hpa_search.search.workspace import read_workspace

    out = work.place
    search, _ = read_workspace(work.folder)
    check_extension(search.budget, command, out)
    more = ", ".join(f"{value:g} {name}" for name, value in command.model_dump(exclude={"wish"}, exclude_defaults=True).items())
    if read_status(work.folder)["state"] != "running":
        CommandBox(out / COMMANDS).send(command)
    elif _obeyed(work, command):
        say(f"The search in {out} goes on for {more} more.")
        return
    say(f"Extended by {more}; this counts as soon as the search goes on: {to_type('resume', out)}")


def _obeyed(work: Opened, command: Command) -> bool:
    """Send ``command`` to the driver, and wait until it has taken it."""
    box = CommandBox(work.place / COMMANDS)
    name, deadline = box.send(command), time.monotonic() + OBEYED_SECONDS
    while box.holds(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(box.seconds / 4)
    return True


def _note_rest(out: Path, word: str, say: Say) -> None:
    """Note it in the ledger, which only who holds the lease may write."""
    held = lease.take(out, out.name, say=say)
    try:
        if not held.ledger.noted().get(FINISHED):
            held.ledger.note(RESTS, word)
    finally:
        held.release()


def _wait_for_end(out: Path) -> None:
    while read_status(out)["state"] == "running":
        time.sleep(1)


def remembered(work: Opened, data: Location | None, external: Location | None) -> tuple[Path, Location, Location | None]:
    """Return the search file, dataset and external images that the search in ``work`` was started with.

    ``data`` and ``external`` are where these are now, if they were moved. Raises UserError where no search has begun.
    """
    from hpa_search.search.workspace import read_workspace

    _, provenance = read_workspace(work.folder)
    found = Place.of(data or provenance.data)
    _check_there(found, "dataset", "--data", work)
    if provenance.external is None and external is None:
        return work.folder / SEARCH, found.plain, None
    more = Place.of(external or provenance.external.folder)  # type: ignore[union-attr]
    _check_there(more, "external images", "--external", work)
    return work.folder / SEARCH, found.plain, more.plain


def _check_there(place: Place, what: str, option: str, work: Opened) -> None:
    if place.is_local and not place.local.exists():
        raise UserError(f"{place}: no {what} of the search in {work.place} any more; give their new place as {option}")
