"""Databases that refuse, and new ones that several processes open at one moment."""

import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
import time
import uuid
from concurrent.futures import ProcessPoolExecutor

import psycopg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from hpa_search.errors import UserError
from hpa_search.ledger.database import explained, open_database
from hpa_search.ledger.ledger import _begun
from hpa_search.ledger.study_place import StudyPlace
from tests.servers.disk import needs_mounts, small_disk

PROCESSES, DATABASES = 4, 5


def test_what_a_database_refuses_is_said(tmp_path, postgres_url, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(UserError, match="password authentication failed.*PGPASSWORD") as told:
        open_database(postgres_url)
    assert "wrong" not in str(told.value)
    started = time.monotonic()
    with pytest.raises(UserError, match="password authentication failed"):  # which no waiting mends
        open_database(postgres_url, seconds=60)
    assert time.monotonic() - started < 20


def test_what_sqlite_says_is_told_apart(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine, and long enough to be taken for the head of a database " * 20)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "away" / "study.db")
    for name, words in {
        "missing/study.db": "missing: .*unable to open database file: it is not there.*choose another place with --study",
        "file/study.db": "unable to open database file: .*file is a file, where a folder is expected",
        "file": "file is not a database; give the path of an SQLite database",
        "folder": "unable to open database file: is a folder, where a file is expected",
        "link.db": "what the link .*link.db names, .*study.db, is not there",
    }.items():
        with pytest.raises(UserError, match=words):
            open_database(f"sqlite:///{tmp_path}/{name}")
    assert (tmp_path / "file").read_text().startswith("mine") and not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("database is locked", "another program has held it.*no lock service"),
        ("locking protocol", "mount it with locks"),
        ("disk I/O error", "broken or away.*dmesg"),
        ("database or disk is full", "make room there"),
        ("database disk image is malformed", "damaged: restore it"),
        ("attempt to write a readonly database", "let user id .* write to it"),
        ("unable to open database file", "make its folder"),
    ],
)
def test_each_of_its_words_has_its_remedy(tmp_path, said, words):
    error = OperationalError("SELECT", {}, sqlite3.OperationalError(said))
    told = explained(error, f"sqlite:///{tmp_path}/study.db", "the study cannot be written")
    assert re.search(words, told) and told.startswith(f"sqlite:///{tmp_path}/study.db: the study cannot be written: {said}; ")


def test_a_database_may_be_used_by_the_group(tmp_path):
    program = (
        "import os, sys; os.umask(0o002)\nfrom hpa_search.ledger.database import open_database\nopen_database(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", program, f"sqlite:///{tmp_path}/study.db"], check=True)
    assert (tmp_path / "study.db").stat().st_mode & 0o777 == 0o664


@needs_mounts
def test_a_database_on_a_disk_that_is_read_only_or_full(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        url = f"sqlite:///{disk}/study.db"
        open_database(url).engine.dispose()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        choose = StudyPlace(url=url, name="toy")
        with pytest.raises(UserError, match=r"readonly database: the file system is read-only.*mount it for writing.*--study"):
            _begun(tmp_path, choose)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        (disk / "filler").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
        with pytest.raises(UserError, match="disk is full; make room there|disk I/O error"):
            for number in range(2000):
                _begun(tmp_path, StudyPlace(url=url, name=f"toy{number}"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_new_ones_may_be_opened_by_several_at_one_moment(tmp_path, request, kind):
    if kind == "sqlite":
        urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(DATABASES)]
    else:
        urls = made_in(request.getfixturevalue("postgres_url"))
    spawn = multiprocessing.get_context("spawn")
    meeting = spawn.Barrier(PROCESSES, timeout=200)
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn, initializer=keep, initargs=(meeting,)) as pool:
        opened = [pool.submit(open_together, urls) for _ in range(PROCESSES)]
        assert [one.result() for one in opened] == [DATABASES] * PROCESSES


def made_in(url):
    """Make databases beside the one at ``url``, whose server is on this host; return their URLs."""
    place = make_url(url)
    names = [f"new_{uuid.uuid4().hex}" for _ in range(DATABASES)]
    with psycopg.connect(url, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}")
    return [place.set(database=name).render_as_string() for name in names]


def keep(barrier):
    global meeting
    meeting = barrier


def open_together(urls):
    """Open each when the other processes do; return how many could be used."""
    usable = 0
    for url in urls:
        meeting.wait()
        usable += open_database(url).get_all_studies() == []
    return usable
