"""The place of a search's ledger: a journal in its folder, or a database that OUT/study.json names without a password."""

import uuid
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from hpa_search.config import Record
from hpa_search.errors import UserError
from hpa_search.files import write_json
from hpa_search.layout import STUDY
from hpa_search.ledger.database import DRIVERS
from hpa_search.ledger.journal import JOURNAL
from hpa_search.system_errors import OUT, refused


class StudyPlace(Record):
    """A study in a database. ``url`` holds no password, and ``name`` is the study's name there.

    ``begun`` says that the study was created. A database without a begun study has lost it, or is the wrong database.
    """

    url: str
    name: str
    begun: bool = False


def check_url(url: str) -> str:
    """Return ``url`` if it can hold a study. Raises UserError for an unknown database, and for a password in the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError("--study: is not a database URL; give a URL such as postgresql://user@host:5432/database") from None
    secret = any("password" in key.lower() for key in parsed.query)
    hidden = parsed.set(query={}).render_as_string(hide_password=True)
    if parsed.drivername not in DRIVERS:
        raise UserError(f"--study {hidden}: a study is kept in postgresql://user@host/database or sqlite:////whole/path.db")
    if parsed.password is not None or secret:
        raise UserError(
            f"--study {hidden}: leave the password out, because the URL is written into the search's folder; set PGPASSWORD "
            "where the search's driver runs, or write it into ~/.pgpass there"
        )
    if parsed.drivername == "sqlite" and not Path(parsed.database or "").is_absolute():
        raise UserError(f"--study {url}: give an absolute path, with four slashes: sqlite:////folder/study.db")
    return url


def choose_study(out: Path, url: str | None, name: str) -> StudyPlace | None:
    """Return the database of the search in ``out``; None if its ledger is the journal there.

    For a new search, ``url`` decides; None means a journal. The URL is written to OUT/study.json, with a unique study name
    made from ``name``. Raises UserError if the search in ``out`` has its study elsewhere.
    """
    there = read_study_place(out)
    begun = there is not None or (out / JOURNAL).is_file()
    if url is not None:
        check_url(url)
    if url is None or (there is not None and there.url == url):
        return there
    if begun:
        place = there.url if there else f"{out}'s own journal"
        raise UserError(
            f"--study {url}: the search in {out} has its study in {place}; leave --study out, or choose another --out"
        )
    chosen = StudyPlace(url=url, name=f"{name}-{uuid.uuid4().hex[:12]}")
    write_study_place(out, chosen)
    return chosen


def write_study_place(out: Path, place: StudyPlace) -> None:
    """Write OUT/study.json."""
    write_json(out / STUDY, place.model_dump(exclude_defaults=True))


def read_study_place(out: Path) -> StudyPlace | None:
    """Return the database that OUT/study.json names; None if that file is missing."""
    try:
        return StudyPlace.model_validate_json((out / STUDY).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise refused(error, out / STUDY, option=OUT, doing="cannot be read") from error
    except ValidationError as error:
        raise UserError(
            f"{out / STUDY}: damaged ({error.errors()[0]['msg']}); restore it, or write the study's url and name into it"
        ) from None
