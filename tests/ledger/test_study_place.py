import json
import os

import pytest

from hpa_search.errors import UserError
from hpa_search.layout import STUDY
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.study_place import check_url, choose_study, read_study_place


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("postgresql://me:secret@host/db", "leave the password out"),
        ("postgresql://me@host/db?password=secret", "leave the password out"),
        ("postgresql://me@host/db?sslpassword=secret", "leave the password out"),
        ("postgresql://me:secret@host:port/db", "is not a database URL"),
        ("mysql://me@host/db", "a study is kept in postgresql"),
        ("study.db", "is not a database URL"),
        ("sqlite:///study.db", "four slashes"),
        ("sqlite://", "four slashes"),
    ],
)
def test_urls_that_will_not_do(url, fault):
    with pytest.raises(UserError, match=fault) as told:
        check_url(url)
    assert "secret" not in str(told.value)


def test_the_choice_is_written_down_without_a_password(tmp_path):
    place = choose_study(tmp_path, "postgresql://me@host/db", "toy")
    assert json.loads((tmp_path / STUDY).read_text()) == {"url": "postgresql://me@host/db", "name": place.name}
    assert read_study_place(tmp_path) == place == choose_study(tmp_path, None, "toy")
    assert choose_study(tmp_path, "postgresql://me@host/db", "toy") == place


def test_searches_of_one_name_have_studies_of_their_own(tmp_path):
    places = []
    for out in (tmp_path / "a", tmp_path / "b"):
        out.mkdir()
        places.append(choose_study(out, "postgresql://me@host/db", "toy"))
    assert places[0].name.startswith("toy-")
    assert places[0].name != places[1].name


def test_a_search_keeps_its_study_where_it_is(tmp_path):
    for name in ("journal", "database"):
        (tmp_path / name).mkdir()
    Ledger.create(tmp_path / "journal", "toy")
    with pytest.raises(UserError, match="has its study in .*own journal"):
        choose_study(tmp_path / "journal", "postgresql://me@host/db", "toy")
    choose_study(tmp_path / "database", "postgresql://me@host/db", "toy")
    with pytest.raises(UserError, match="has its study in postgresql://me@host/db"):
        choose_study(tmp_path / "database", "postgresql://me@other/db", "toy")
    with pytest.raises(UserError, match="leave the password out") as told:
        choose_study(tmp_path / "journal", "postgresql://me:secret@host/db", "toy")
    assert "secret" not in str(told.value)
    assert choose_study(tmp_path / "journal", None, "toy") is None


@pytest.mark.parametrize("text", ["", "[]", '{"url": 3, "name": "a"}', '{"url": "sqlite:////a"}'])
def test_a_damaged_study_file_is_named(tmp_path, text):
    (tmp_path / STUDY).write_text(text)
    with pytest.raises(UserError, match="study.json: damaged"):
        read_study_place(tmp_path)


def test_the_password_is_in_no_file(tmp_path, postgres_url):
    choose_study(tmp_path, postgres_url, "toy-2")
    ledger = Ledger.create(tmp_path, "toy")
    assert json.loads((tmp_path / STUDY).read_text())["begun"] is True
    ledger.note("lease", {"holder": "a"})
    secret = os.environ["PGPASSWORD"].encode()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()]
