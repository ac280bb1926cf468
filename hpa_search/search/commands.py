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
from hpa_search.search.settings import Budget

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


def send(out: Path, command: Command) -> Path:
    """Leave ``command`` for the driver of the search in ``out``; return its file, which the driver removes when it obeys."""
    path = out / COMMANDS / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    write_text(path, command.model_dump_json(exclude_defaults=True) + "\n")
    return path


def waiting(out: Path) -> dict[Path, Command | None]:
    """Return the commands that nobody has obeyed yet, the oldest first; None for a file that is no command."""
    folder = out / COMMANDS
    return {path: _read(path) for path in sorted(folder.glob("*.json"))} if folder.is_dir() else {}


def done(path: Path) -> None:
    """Remove a command that was obeyed."""
    path.unlink(missing_ok=True)


def extended(budget: Budget, extensions: Mapping[str, Mapping[str, Any]]) -> Budget:
    """Return ``budget`` with all ``extensions`` (see `EXTENSIONS`) added."""
    more = {name: getattr(budget, name) for name in ("trials", "hours", "epochs") if getattr(budget, name) is not None}
    for extension in extensions.values():
        for name in more:
            more[name] += extension.get(name, 0)
    return budget.model_copy(update=more)


def check_extension(budget: Budget, command: Command, where: Path) -> None:
    """Raise UserError if ``command`` would extend what does not limit the search in ``where``."""
    limits = [name for name in ("trials", "hours", "epochs") if getattr(budget, name) is not None]
    if not limits:
        raise UserError(f"{where}: this search has no budget that could be extended; a grid ends with its last point")
    for name in ("trials", "hours", "epochs"):
        if getattr(command, name) and name not in limits:
            given = " and ".join(f"--{limit}" for limit in limits)
            raise UserError(f"--{name}: the search in {where} is not limited by {name}; it can be extended by {given}")


def _read(path: Path) -> Command | None:
    try:
        return Command.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
