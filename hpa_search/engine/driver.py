"""The driver of a search. It holds the lease, brings up Ray, and runs the agenda.

    with Driver(search, site, trials, watchers=..., say=...) as driver:   # no other driver is at work now
        if driver.run() == "finished":                                    # no trial is left to train
            ...                                                           # the final stage
            driver.finish()                                               # status says finished

`search.life.Life` is the state of its life. `engine.stay.Stay` is one stay on a Ray.
"""

import os
import select
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hpa_search.engine.cluster_up import end_processes, ray_up
from hpa_search.engine.commands import COMMANDS, CommandBox
from hpa_search.engine.listener import Listener, budget_now, catch_up
from hpa_search.engine.scratch import remove, scratch_folder
from hpa_search.engine.signals import Interrupted, Signals
from hpa_search.engine.stay import Stay
from hpa_search.engine.worker import Trials
from hpa_search.errors import UserError
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import FINISHED, RESTS
from hpa_search.ledger.study_place import choose_study
from hpa_search.search.agenda import Agenda
from hpa_search.search.life import Life, Outcome
from hpa_search.search.log import SearchLog
from hpa_search.search.shelf import Shelf
from hpa_search.search.watcher import Watcher
from hpa_search.space.search import Search
from hpa_search.storage.place import Place

CUT_OFF = "Interrupted. To resume, give the same command again."
LOG_SECONDS = 1.0
"""How long the last line of a search's log may take."""


@dataclass(frozen=True)
class Site:
    """Where a driver works.

    ``out`` is the folder of the search. ``study`` is the URL of a database for the ledger; None means a journal in ``out``.
    People leave commands in ``commands``; None means OUT/commands. ``ray_address`` names a Ray to join, whose nodes may come
    and go. If it is None, the driver starts a local Ray and ends it.
    """

    out: Path
    study: str | None = None
    commands: Place | None = None
    ray_address: str | None = None


class Driver:
    """Runs the search at ``site`` from wherever its ledger is.

    Entering takes the lease; leaving gives it back. Raises UserError on entering while another driver holds the search.
    """

    def __init__(
        self,
        search: Search,
        site: Site,
        trials: Trials,
        *,
        watchers: tuple[Watcher, ...] = (),
        shelf: Shelf | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        # The lease is renewed also while Ray starts in another current folder.
        self._site = replace(site, out=site.out.absolute())
        self._search, self._trials, self._watchers, self._say = search, trials, watchers, say
        self._life, self._shelf = Life(), shelf
        self._box = CommandBox(self._site.commands or Place.of(self._site.out) / COMMANDS)

    def __enter__(self) -> "Driver":
        site, search = self._site, self._search
        choose_study(site.out, site.study, search.name)
        left = self._box.waiting()  # a command that comes later is for this driver
        self._lease = lease.take(site.out, search.name, on_lost=self._life.break_off, say=self._say)
        try:
            self._life.at_end(self._ledger.hurry)
            catch_up(self._box, left, self._ledger)
        except BaseException:
            self._lease.release()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        self._lease.release()

    @property
    def _ledger(self) -> Ledger:
        return self._lease.ledger

    def run(self) -> Outcome:
        """Train until no trial is left to train, or the driver is to end; return how it ended.

        Raises UserError if no slot can run, or if the ledger or OUT cannot be written.
        """
        agenda = self._agenda()
        if not agenda.has_nothing_left:
            self._open()
            if agenda.restore() and (lost := agenda.lost_in_words()):
                self._say(lost)
            self._train(agenda)
        if agenda.has_nothing_left and not self._life.is_ending:
            agenda.close()
            return "finished"
        if why := self._life.trouble:
            raise UserError(
                f"the search was broken off: {why}. Mend that and run it again; everything until then is kept "
                f"(failed trials: {self._site.out / 'trials'}/*/error.txt)"
            )
        outcome = self._life.outcome
        if outcome in ("paused", "stopped"):
            self._ledger.note(RESTS, outcome)
        return outcome

    def finish(self) -> None:
        """Note that the search is finished, its final stage included."""
        self._ledger.note(FINISHED, True)

    def _agenda(self) -> Agenda:
        now = self._search.model_copy(update={"budget": budget_now(self._search.budget, self._ledger)})
        if self._ledger.noted().get(RESTS):
            self._ledger.note(RESTS, None)
        return Agenda(
            now,
            self._ledger,
            slots=1,
            spent_seconds=lambda: self._lease.spent_seconds,
            life=self._life,
            watchers=self._watchers,
            shelf=self._shelf,
        )

    def _open(self) -> None:
        if self._ledger.noted().get(FINISHED):  # a finished search runs again only after an extension
            self._ledger.note(FINISHED, False)

    def _train(self, agenda: Agenda) -> None:
        life, address = self._life, self._site.ray_address
        with (
            suppress(Interrupted),
            scratch_folder() as scratch,
            Signals(life, partial(_leave_behind, scratch, self._site.out)) as signals,
            ExitStack() as stack,
        ):
            stack.callback(_end_what_hangs, life, scratch)
            with signals.interrupting():
                stack.enter_context(ray_up(address, scratch))
                life.run()
            # More than once where the slots are changed, or where the search is extended while they or the listener close.
            while not (life.is_ending or life.is_draining or agenda.has_nothing_left):
                with Listener(self._box, agenda, self._search.budget, self._say):
                    stay = Stay(agenda, self._site.out, scratch, self._trials, self._lease.stopwatch, self._say)
                    stay.run(joined=address is not None)
                life.run()


def run_search(
    search: Search,
    site: Site,
    trials: Trials,
    *,
    watchers: tuple[Watcher, ...] = (),
    shelf: Shelf | None = None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Run a search that has no final stage of its own; return how it ended. Raises UserError as `Driver`."""
    with Driver(search, site, trials, watchers=watchers, shelf=shelf, say=say) as driver:
        outcome = driver.run()
        if outcome == "finished":
            driver.finish()
        return outcome


def _end_what_hangs(life: Life, scratch: Path) -> None:
    """Kill a local Ray if the driver ends now. It still runs where a slot's thread hung in a call to it."""
    if life.is_ending:
        end_processes(scratch)


def _leave_behind(scratch: Path, out: Path) -> None:
    """End Ray's processes and remove ``scratch`` for a driver that cannot end in order. Say so, also in the log in ``out``."""
    end_processes(scratch)
    remove(scratch)
    with suppress(OSError):  # the terminal may be closed, and a stopped reader must not block the end
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"{CUT_OFF}\n".encode())
    # A thread of its own: a file server that is away must not block the end either.
    logging = threading.Thread(target=_log_end, args=(out,), daemon=True)
    logging.start()
    logging.join(LOG_SECONDS)


def _log_end(out: Path) -> None:
    log = SearchLog()
    log.open(out)
    log.write(CUT_OFF)
