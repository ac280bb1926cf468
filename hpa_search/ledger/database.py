"""The databases that may hold a study: how to connect to them, and what their errors mean."""

import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hpa_search.errors import UserError
from hpa_search.files import check_writable
from hpa_search.storage.patience import Say, patiently
from hpa_search.system_errors import AWAY, FULL, NO_LOCKS, message

logger = logging.getLogger(__name__)

DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
"""The databases that a study's URL may name, and their drivers in SQLAlchemy."""

CONNECT_SECONDS = 10
LOCKED_SECONDS = 30
"""Seconds that a write in SQLite waits for another process's write."""
MAKING_SECONDS = 30
"""Seconds that processes may hinder each other when they open a new database at the same moment."""

_NO_ROOM = ("disk is full", "no space left", "could not extend file", "disk i/o error", "readonly database", "locking protocol")
_REFUSED = ("password", "authentication failed", "no pg_hba.conf entry", "does not exist", "permission denied")
_SQLITE = {
    "locking protocol": f"{NO_LOCKS.remedy}, or {NO_LOCKS.move} with --study",
    "disk i/o error": f"{AWAY.what}, or {NO_LOCKS.what}: {AWAY.remedy}, or {AWAY.move} with --study",
    "database or disk is full": f"{FULL.remedy}, or {FULL.move} with --study",
    "file is not a database": "give the path of an SQLite database, or of a new file, with --study",
    "malformed": "the database is damaged: restore it",
    "is locked": f"another program has held it for {LOCKED_SECONDS} s: end that program; if there is none, {NO_LOCKS.what}: "
    f"{NO_LOCKS.move} with --study",
    "readonly database": "let user id {user} write to it and to its folder, or choose another place with --study",
    "unable to open": "make its folder, and let user id {user} write there, or choose another place with --study",
}
"""What to do, by SQLite's own words, which say little."""
_PASSWORD = "the password is taken from PGPASSWORD or ~/.pgpass on the machine where the search's driver runs"
_ROOM = "make room where the database's server keeps it"


def open_database(url: str, *, seconds: float = 0.0, tell: Say = logger.warning) -> RDBStorage:
    """Return Optuna's storage in the database at ``url``. Wait up to ``seconds`` for a database that is away.

    Raises UserError if the database cannot be reached or refuses.
    """
    parsed = make_url(url)
    parsed = parsed.set(drivername=DRIVERS[parsed.drivername])
    _create(parsed)
    address, options = parsed.render_as_string(hide_password=False), _engine_options(parsed)

    def opened() -> RDBStorage:
        make = partial(RDBStorage, address, engine_kwargs=options)
        return patiently(make, url, transient=_are_being_made, seconds=MAKING_SECONDS, tell=tell)

    try:
        return patiently(opened, url, transient=_comes_back, seconds=seconds, tell=tell) if seconds else opened()
    except SQLAlchemyError as error:
        raise UserError(explained(error, url, "the study's database cannot be used")) from None
    except RuntimeError as error:  # the tables are of another version of Optuna
        raise UserError(f"{url}: the study's database cannot be used: {error}") from None
    except OSError as error:
        raise UserError(f"{url}: the study's database cannot be used: {error}") from None


def _create(url: URL) -> None:
    """Create a missing SQLite file with the mode of the umask. SQLite itself would let only one user write."""
    with suppress(OSError):
        if url.drivername.startswith("sqlite") and (path := Path(url.database or "")).parent.is_dir():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def is_away(error: Exception) -> bool:
    """Return whether a failed call may succeed later: the database's server is away, restarting, or busy."""
    if not isinstance(error, SQLAlchemyError) or any(word in reason(error).lower() for word in (*_NO_ROOM, *_REFUSED)):
        return False
    lost = getattr(error, "connection_invalidated", False)
    return lost or type(error).__name__ in ("OperationalError", "InterfaceError", "TimeoutError")


def _comes_back(error: Exception) -> bool:
    """Return whether to wait for a database that cannot be opened. A file without its folder does not come back by itself."""
    return is_away(error) and "unable to open database file" not in str(error)


def _are_being_made(error: Exception) -> bool:
    """Return whether another process has made the tables meanwhile. Optuna makes missing tables when it opens a database."""
    return isinstance(error, IntegrityError) or (isinstance(error, SQLAlchemyError) and "already exists" in reason(error))


def reason(error: Exception) -> str:
    """Return the database's own words, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _engine_options(url: URL) -> dict[str, object]:
    if url.drivername.startswith("sqlite"):
        return {"connect_args": {"timeout": LOCKED_SECONDS}}
    # A connection cut by a restart or a router is detected before its use, and a dead host does not hang for hours.
    alive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
    return {"pool_pre_ping": True, "pool_timeout": CONNECT_SECONDS, "connect_args": {"connect_timeout": CONNECT_SECONDS, **alive}}


def explained(error: Exception, url: str, doing: str) -> str:
    """Return the message for an error of the database at ``url``: ``doing`` is what failed. Then why, and what to do."""
    parsed, why = make_url(url), reason(error)
    if not parsed.drivername.startswith("sqlite"):
        return f"{url}: {doing}: {why}; {_ROOM if any(words in why.lower() for words in _NO_ROOM) else _PASSWORD}"
    if "unable to open" in why or "readonly" in why:
        try:
            check_database(Path(parsed.database or ""))
        except OSError as cause:
            return message(cause, parsed.database, option="--study", doing=f"{doing}: {why}")
    advice = next((f"; {advice}" for words, advice in _SQLITE.items() if words in why.lower()), "")
    return f"{url}: {doing}: {why}{advice.format(user=os.geteuid())}"


def check_database(path: Path) -> None:
    """Raise OSError if SQLite cannot write the file ``path`` or make files beside it."""
    path.parent.stat()  # SQLite makes no folders
    check_writable(path)
    if path.exists():
        with path.open("r+b"):
            pass
