"""Commands to a running search: small files in OUT/commands, which its driver polls every few seconds."""

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from hpa_search.config import Record
from hpa_search.errors import UserError
from hpa_search.explain import explain
from hpa_search.files import write_text
from hpa_search.space.limits import MOST_EPOCHS, MOST_HOURS, MOST_TRIALS
from hpa_search.space.settings import Budget
from hpa_search.storage.faults import Missing
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from hpa_search.system_errors import OUT, refusing
from hpa_search.system_files import is_system_file

COMMANDS = "commands"
EXTENSIONS = "extensions"
"""The ledger's note of all extensions, by the names of their commands. A command that is read twice counts once."""

Wish = Literal["pause", "stop", "extend"]


class Command(Record):
    """A request to the driver: `pause` after the running epochs, `stop` now, or `extend` the budget."""

    wish: Wish
    trials: int = Field(default=0, ge=0, le=MOST_TRIALS)
    hours: float = Field(default=0, ge=0, le=MOST_HOURS)
    epochs: int = Field(default=0, ge=0, le=MOST_EPOCHS)

    @model_validator(mode="after")
    def _whole(self) -> "Command":
        adds = self.trials or self.hours or self.epochs
        if bool(adds) != (self.wish == "extend"):
            raise ValueError("give trials, hours or epochs with extend, and with no other command")
        return self


class CommandBox:
    """The folder ``place`` in which commands wait. People add them, and the driver removes those that it has obeyed."""

    def __init__(self, place: Place) -> None:
        self._folder = place.local if place.is_local else None
        self._store = None if place.is_local else Store(place)
        self.seconds = 1.0 if place.is_local else 5.0
        """Seconds between two polls. Every poll of a store is a request that costs money."""

    def send(self, command: Command) -> str:
        """Write ``command`` for the driver; return its name. The driver removes it when it has obeyed.

        Raises UserError if the folder cannot be written.
        """
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
        text = command.model_dump_json(exclude_defaults=True) + "\n"
        if self._store is not None:
            self._store.write(name, text.encode())
        else:
            with refusing(self._folder, option=OUT, doing="the command cannot be written"):
                write_text(self._path(name), text)
        return name

    def waiting(self) -> dict[str, Command | None]:
        """Return the waiting commands by their names, the oldest first. None stands for a file that is not a command."""
        if self._store is not None:
            names = list(self._store.list(recursive=False))
        else:
            names = [path.name for path in self._path("").glob("*.json")]
        ours = sorted(name for name in names if name.endswith(".json") and not is_system_file(name))
        found = {name: self._content(name) for name in ours}
        return {name: _parsed(content) for name, content in found.items() if content is not None}

    def done(self, name: str) -> None:
        """Remove an obeyed command."""
        if self._store is not None:
            self._store.delete(name)
        else:
            self._path(name).unlink(missing_ok=True)

    def holds(self, name: str) -> bool:
        """Return whether the command ``name`` still waits."""
        return self._path(name).exists() if self._store is None else self._store.look(name) is not None

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name

    def _content(self, name: str) -> bytes | None:
        """Return the content of a file; None if the file is gone or cannot be read now."""
        try:
            return self._path(name).read_bytes() if self._store is None else self._store.read(name)
        except (OSError, Missing):
            return None


def _parsed(content: bytes) -> Command | None:
    try:
        return Command.model_validate_json(content)
    except ValidationError:
        return None


def extension(trials: int | None, hours: float | None, epochs: int | None) -> Command:
    """Return the command that extends a budget by ``trials``, ``hours`` and ``epochs``. None adds nothing.

    Raises UserError that names the value out of bounds.
    """
    try:
        return Command(wish="extend", trials=trials or 0, hours=hours or 0.0, epochs=epochs or 0)
    except ValidationError as error:
        raise explain(error, "extend", Command) from None


def extended(budget: Budget, extensions: Mapping[str, Mapping[str, Any]]) -> Budget:
    """Return ``budget`` plus all ``extensions`` (see `EXTENSIONS`). A limit that the budget lacks is not added."""
    more = {name: getattr(budget, name) for name in ("trials", "hours", "epochs") if getattr(budget, name) is not None}
    for added in extensions.values():
        for name in more:
            more[name] += added.get(name, 0)
    return budget.model_copy(update=more)


def check_extension(budget: Budget, command: Command, where: Place) -> None:
    """Raise UserError if ``command`` adds to a limit that the search in ``where`` does not have."""
    limits = [name for name in ("trials", "hours", "epochs") if getattr(budget, name) is not None]
    if not limits:
        raise UserError(f"{where}: this search has no budget to extend; a grid ends with its last point")
    for name in ("trials", "hours", "epochs"):
        if getattr(command, name) and name not in limits:
            given = " and ".join(f"--{limit}" for limit in limits)
            raise UserError(f"--{name}: the search in {where} is not limited by {name}; it can be extended by {given}")
