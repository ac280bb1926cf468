"""Databases that refuse, and new ones that several processes open at one moment."""

import multiprocessing
import time
import uuid
from concurrent.futures import ProcessPoolExecutor

import psycopg
import pytest
from sqlalchemy.engine import make_url

from hpa_search.errors import UserError
from hpa_search.search.database import open_database

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
    with pytest.raises(UserError, match="its folder is there"):
        open_database(f"sqlite:///{tmp_path}/missing/study.db")


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
