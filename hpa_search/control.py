"""A handle on a search whose OUT is visible here."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from hpa_search.engine.commands import COMMANDS, Command, CommandBox, Wish, check_extension, extension
from hpa_search.engine.surroundings import settle
from hpa_search.errors import UserError
from hpa_search.handle import Snapshot
from hpa_search.hints import command as to_type
from hpa_search.layout import BEGUN, SEARCH
from hpa_search.storage.data_cache import default_cache
from hpa_search.storage.opened import WorkingCopy, opened
from hpa_search.storage.place import Location, Place

# The ledger imports Optuna and the search file PyTorch. Both come late: a command to a running driver needs no PyTorch, and
# `resume` settles the environment first.

OBEYED_SECONDS = 30.0
"""How long a driver may take to read a command. A driver in its final stage reads none."""

Say = Callable[[str], None]


class OutHandle:
    """A `SearchHandle` on the search in OUT, a folder or a URL of an object store.

    ``say`` gets the lines for the user, and ``console`` the progress of a resumed search. ``is_starting`` says that a
    driver is starting: `pause` and `stop` then note nothing in its place.
    """

    poll_seconds = 2.0

    def __init__(self, out: str, *, say: Say, console: Console | None = None, is_starting: bool = False) -> None:
        self._out, self._say, self._is_starting = out, say, is_starting
        self._console = console or Console(soft_wrap=True)
        self._work: WorkingCopy | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The error passes through the stack, where a path in a mirror becomes the place it stands for.
        self._stack.__exit__(kind, error, trace)

    def status(self) -> Snapshot:
        """Return the state of the search and of each trial, read from its ledger."""
        from hpa_search.ledger.status import read_status

        return Snapshot(read_status(self._open().folder))

    def pause(self, *, wait: bool = False) -> None:
        """End the driver after the running epochs; without a driver note the search as paused."""
        self._rest("pause", "paused", "after the running epochs", wait)

    def stop(self, *, wait: bool = False) -> None:
        """End the driver now; without a driver note the search as stopped."""
        self._rest("stop", "stopped", "now", wait)

    def extend(self, *, trials: int | None = None, hours: float | None = None, epochs: int | None = None) -> None:
        """Add to the budget: at once in a running search, else from the next resume on."""
        from hpa_search.search.workspace import read_workspace

        work = self._open()
        command = extension(trials, hours, epochs)
        check_extension(read_workspace(work.folder)[0].budget, command, work.place)
        added = command.model_dump(exclude={"wish"}, exclude_defaults=True)
        more = ", ".join(f"{value:g} {name}" for name, value in added.items())
        if self.status().state != "running":
            CommandBox(work.place / COMMANDS).send(command)
        elif _is_obeyed(work, command):
            self._say(f"The search in {work.place} is extended by {more}.")
            return
        self._say(f"Extended by {more}, from the next resume on: {to_type('resume', work.place)}")

    def resume(
        self, *, data: str | None = None, external: str | None = None, cache: str | None = None, ray: str | None = None
    ) -> str:
        """Run the search in this process; return the outcome of its driver."""
        settle_environment(ray, self._say)
        from hpa_search.run import run

        work = self._open(cache)
        moved = [None if place is None else Place.of(place).plain for place in (data, external)]
        space, dataset, more = remembered(work, *moved)
        place, here = work.place.plain, Path(cache) if cache else default_cache()
        return run(space, dataset, place, here, external=more, ray_address=ray, console=self._console)

    def _open(self, cache: str | None = None) -> WorkingCopy:
        """Return OUT with the files of a begun search. It stays open until the block ends."""
        if self._work is None:
            here = Path(cache) if cache else default_cache()
            self._work = self._stack.enter_context(opened(Place.of(self._out), here, *BEGUN))
        else:
            self._work.fetch(*BEGUN)  # the search may have begun since
        return self._work

    def _rest(self, wish: Wish, word: str, when: str, wait: bool) -> None:
        state, work = self.status().state, self._open()
        out = work.place
        if state == "finished":
            self._say(f"The search in {out} is finished; there is nothing to {wish}.")
        # A starting driver holds no lease yet, so the ledger alone cannot show it.
        elif state != "running" and self._is_starting:
            self._say(f"The driver of {out} is starting and reads no commands yet.")
        elif state != "running":
            _note_rest(work.folder, word, self._say)
            self._say(f"No driver is at work on {out}: {word}. To resume: {to_type('resume', out)}")
        elif not _is_obeyed(work, Command(wish=wish)):
            self._say(
                f"{out}: the driver has read no command for {OBEYED_SECONDS:.0f} s. It is in its final stage, or has just "
                f"ended; see {to_type('status', out)}"
            )
        else:
            self._say(f"The driver of {out} ends {when}. To resume: {to_type('resume', out)}")
            if wait:
                while self.status().state == "running":
                    time.sleep(1)
                self._say(f"{out}: {self.status().state}.")


def settle_environment(ray: str | None, say: Say) -> None:
    """Set this process's environment for the Ray at ``ray``, None for a local Ray. Say which variables it drops.

    Call this before anything imports Ray, which reads the environment at import.
    """
    if dropped := settle(ray):
        say(f"The local Ray does not see these variables: {', '.join(dropped)}")


def remembered(work: WorkingCopy, data: Location | None, external: Location | None) -> tuple[Path, Location, Location | None]:
    """Return the search file, dataset and external images of the search in ``work``.

    ``data`` and ``external`` replace remembered places. Raises UserError where no search has begun or a folder is missing.
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


def _check_there(place: Place, what: str, option: str, work: WorkingCopy) -> None:
    if place.is_local and not place.local.exists():
        raise UserError(f"{place}: {what} of the search in {work.place} not found; give the new place with {option}")


def _is_obeyed(work: WorkingCopy, command: Command) -> bool:
    """Send ``command`` to the driver; return whether it was taken within `OBEYED_SECONDS`."""
    box = CommandBox(work.place / COMMANDS)
    name, deadline = box.send(command), time.monotonic() + OBEYED_SECONDS
    while box.holds(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(box.seconds / 4)
    return True


def _note_rest(out: Path, word: str, say: Say) -> None:
    """Note ``word`` in the ledger as the state of an unfinished search. Only the lease's holder may write there."""
    from hpa_search.ledger import lease
    from hpa_search.ledger.status import FINISHED, RESTS

    held = lease.take(out, out.name, say=say)
    try:
        if not held.ledger.noted().get(FINISHED):
            held.ledger.note(RESTS, word)
    finally:
        held.release()
