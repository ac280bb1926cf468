"""The driver's ear: obeys the commands that people leave in OUT/commands."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpa_search.search.agenda import Agenda
from hpa_search.search.commands import EXTENSIONS, Command, done, extended, waiting
from hpa_search.search.ending import Ending
from hpa_search.search.settings import Budget
from hpa_search.search.study import Ledger, LedgerError

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 1.0


def budget_now(budget: Budget, ledger: Ledger) -> Budget:
    """Return the ``budget`` of a search's file with all that extended it."""
    return extended(budget, ledger.noted().get(EXTENSIONS, {}))


def catch_up(out: Path, ledger: Ledger) -> None:
    """Obey what was asked of a driver that was not there: extensions count, a pause or stop of before does not."""
    for path, command in waiting(out).items():
        if command is not None and command.wish == "extend":
            _note(ledger, path, command)
        done(path)


class Listener:
    """Looks for commands every ``LISTEN_SECONDS`` while it is entered; ``first`` is the budget in the search's file."""

    def __init__(self, out: Path, agenda: Agenda, first: Budget, ending: Ending, say: Callable[[str], None]) -> None:
        self._out, self._agenda, self._first, self._ending, self._say = out, agenda, first, ending, say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._over.set()
        self._thread.join(LISTEN_SECONDS)

    def _listen(self) -> None:
        while not self._over.wait(LISTEN_SECONDS):
            try:
                for path, command in waiting(self._out).items():
                    self._obey(path, command)
                    done(path)
            except LedgerError as error:
                self._ending.because_of(str(error))
            except OSError as error:  # the folder is away for a moment
                logger.warning("%s cannot be looked at: %s", self._out, error)

    def _obey(self, path: Path, command: Command | None) -> None:
        if command is None:
            self._say(f"{path} is no command and was removed.")
        elif command.wish == "extend":
            _note(self._agenda.ledger, path, command)
            self._agenda.extend(budget_now(self._first, self._agenda.ledger))
        elif command.wish == "pause":
            self._say("Asked to pause: the running epochs are trained to their ends.")
            self._agenda.pausing = True
        else:
            self._say("Asked to stop: what is running goes on from its last epoch when the search is resumed.")
            self._ending.at_once("stopped")


def _note(ledger: Ledger, path: Path, command: Command) -> None:
    more = command.model_dump(exclude={"wish"}, exclude_defaults=True)
    ledger.note(EXTENSIONS, {**ledger.noted().get(EXTENSIONS, {}), path.stem: more})
