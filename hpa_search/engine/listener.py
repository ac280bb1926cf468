"""The listener: a thread of the driver that obeys the commands which people leave in OUT/commands."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from hpa_search.engine.commands import EXTENSIONS, Command, CommandBox, extended
from hpa_search.errors import UserError
from hpa_search.ledger.ledger import Ledger, LedgerError
from hpa_search.search.agenda import Agenda
from hpa_search.space.settings import Budget

logger = logging.getLogger(__name__)


def budget_now(budget: Budget, ledger: Ledger) -> Budget:
    """Return the ``budget`` of a search's file with every extension added."""
    return extended(budget, ledger.noted().get(EXTENSIONS, {}))


def catch_up(box: CommandBox, waiting: Mapping[str, Command | None], ledger: Ledger) -> None:
    """Obey commands from before this driver: extensions count, an old pause or stop does not."""
    for name, command in waiting.items():
        if command is not None and command.wish == "extend":
            _note(ledger, name, command)
        box.done(name)


class Listener:
    """Polls ``box`` every few seconds while it is entered. ``first`` is the budget in the search's file."""

    def __init__(self, box: CommandBox, agenda: Agenda, first: Budget, say: Callable[[str], None]) -> None:
        self._box, self._agenda, self._first, self._say = box, agenda, first, say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._over.set()
        self._thread.join(self._box.seconds)

    def _listen(self) -> None:
        life = self._agenda.life
        while not self._over.wait(self._box.seconds):
            try:
                for name, command in self._box.waiting().items():
                    self._obey(name, command)
                    self._box.done(name)
            except LedgerError as error:
                life.break_off(str(error))
            except (UserError, OSError) as error:  # the folder is away for a while
                logger.warning("commands cannot be read: %s", error)
            except Exception as error:
                logger.exception("the listener failed")
                life.break_off(f"commands cannot be obeyed any more: {type(error).__name__}: {error}")
                return

    def _obey(self, name: str, command: Command | None) -> None:
        life = self._agenda.life
        if command is None:
            self._say(f"The command {name} cannot be read and was removed.")
        elif command.wish == "extend":
            _note(self._agenda.ledger, name, command)
            self._agenda.extend(budget_now(self._first, self._agenda.ledger))
            if lost := self._agenda.lost_in_words():
                self._say(lost)
        elif command.wish == "pause":
            self._say("Asked to pause: the running epochs are trained to their ends.")
            life.pause()
        else:
            self._say("Asked to stop: resume continues each running trial from its last epoch.")
            life.end("stopped")


def _note(ledger: Ledger, name: str, command: Command) -> None:
    more = command.model_dump(exclude={"wish"}, exclude_defaults=True)
    ledger.note(EXTENSIONS, {**ledger.noted().get(EXTENSIONS, {}), name: more})
