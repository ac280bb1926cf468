"""What people ask of a running search from outside: small files in OUT/commands, which its driver looks for every second."""

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from hpa_search.config import Record
from hpa_search.errors import UserError
from hpa_search.files import write_text
from hpa_search.space.settings import Budget
from hpa_search.storage.faults import Missing
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from hpa_search.system_errors import OUT, refusing
from hpa_search.system_files import is_system_file

COMMANDS = "commands"
EXTENSIONS = "extensions"
"""The ledger's note of all extensions, by the names of their commands: one that is read twice counts once."""

Wish = Literal["pause", "stop", "extend"]


class Command(Record):
    """``pause`` ends the driver after the running epochs, ``stop`` at once; ``extend`` adds to the budget."""

    wish: Wish
    trials: int = Field(default=0, ge=0, le=100_000)
    hours: float = Field(default=0, ge=0, le=10_000)
    epochs: int = Field(default=0, ge=0, le=100_000_000)

    @model_validator(mode="after")
    def _whole(self) -> "Command":
        adds = self.trials or self.hours or self.epochs
        if bool(adds) != (self.wish == "extend"):
            raise ValueError("extend adds trials, hours or epochs, and nothing else does")
        return self


class CommandBox:
    """The folder ``place`` in which commands wait for the driver; people put them there, the driver takes them away."""

    def __init__(self, place: Place) -> None:
        self._folder = place.local if place.is_local else None
        self._store = None if place.is_local else Store(place)
        self.seconds = 1.0 if place.is_local else 5.0
        """How often to look: each look at a store is a request that is paid for."""

    def send(self, command: Command) -> str:
        """Leave ``command`` for the driver; return its name. It is gone as soon as the driver has obeyed."""
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
        text = command.model_dump_json(exclude_defaults=True) + "\n"
        if self._store is not None:
            self._store.write(name, text.encode())
        else:
            with refusing(self._folder, option=OUT, doing="the command cannot be left"):
                write_text(self._path(name), text)
        return name

    def waiting(self) -> dict[str, Command | None]:
        """Return the commands that nobody has obeyed yet, the oldest first; None for a file that is no command."""
        if self._store is not None:
            names = list(self._store.list(recursive=False))
        else:
            names = [path.name for path in self._path("").glob("*.json")]
        ours = sorted(name for name in names if name.endswith(".json") and not is_system_file(name))
        found = {name: self._content(name) for name in ours}
        return {name: _parsed(content) for name, content in found.items() if content is not None}

    def done(self, name: str) -> None:
        """Remove a command that was obeyed."""
        if self._store is not None:
            self._store.delete(name)
        else:
            self._path(name).unlink(missing_ok=True)

    def holds(self, name: str) -> bool:
        """Whether the command ``name`` still waits."""
        return self._path(name).exists() if self._store is None else self._store.look(name) is not None

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name

    def _content(self, name: str) -> bytes | None:
        """Return what a file holds; None for one that cannot be read now, or is gone."""
        try:
            return self._path(name).read_bytes() if self._store is None else self._store.read(name)
        except (OSError, Missing):
            return None


def _parsed(content: bytes) -> Command | None:
    try:
        return Command.model_validate_json(content)
    except ValidationError:
        return None


def extended(budget: Budget, extensions: Mapping[str, Mapping[str, Any]]) -> Budget:
    """Return ``budget`` with all ``extensions`` (see `EXTENSIONS`) added."""
    more = {name: getattr(budget, name) for name in ("trials", "hours", "epochs") if getattr(budget, name) is not None}
    for extension in extensions.values():
        for name in more:
            more[name] += extension.get(name, 0)
    return budget.model_copy(update=more)


def check_extension(budget: Budget, command: Command, where: Place) -> None:
    """Raise UserError if ``command`` would extend what does not limit the search in ``where``."""
    limits = [name for name in ("trials", "hours", "epochs") if getattr(budget, name) is not None]
    if not limits:
        raise UserError(f"{where}: this search has no budget that could be extended; a grid ends with its last point")
    for name in ("trials", "hours", "epochs"):
        if getattr(command, name) and name not in limits:
            given = " and ".join(f"--{limit}" for limit in limits)
            raise UserError(f"--{name}: the search in {where} is not limited by {name}; it can be extended by {given}")
