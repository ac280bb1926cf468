import pickle
import re
from pathlib import Path

import pytest

from hpa_search.errors import UserError
from hpa_search.storage.place import Place


def test_a_path_is_local_and_stays_as_it_was_given():
    for given in ("some/where", Path("some/where")):
        place = Place.of(given)
        assert place.is_local and place.local == Path("some/where") and str(place) == "some/where"
    assert str(Place.of("some") / "where" / "else") == "some/where/else"
    assert Place.of(Place.of("here")) == Place.of("here")


def test_a_file_url_is_a_path():
    assert Place.of("file:///data/a%20b").local == Path("/data/a b")


def test_an_object_stores_url_is_taken_apart_and_put_together():
    place = Place.of("s3://bucket/some/folder/")
    assert (place.scheme, place.bucket, place.path, place.is_local) == ("s3", "bucket", "some/folder", False)
    assert str(place) == "s3://bucket/some/folder"
    assert str(place / "trials/0007" / "weights") == "s3://bucket/some/folder/trials/0007/weights"
    assert (place / "a.csv").name == "a.csv" and (place / "a.csv").parent == place
    assert str(Place.of("s3://bucket") / "x") == "s3://bucket/x"
    assert Place.of("s3://bucket/") == Place.of("s3://bucket") == Place.of("s3://bucket/x").parent


def test_the_clients_settings_stay_at_the_end():
    place = Place.of("s3://bucket/x?endpoint_override=localhost:9000&scheme=http")
    assert place.key == "bucket/x"
    assert str(place / "y") == "s3://bucket/x/y?endpoint_override=localhost:9000&scheme=http"
    assert str(Place.of("s3://bucket?scheme=http") / "y") == "s3://bucket/y?scheme=http"


def test_azures_account_belongs_to_the_container():
    place = Place.of("abfss://container@account.dfs.core.windows.net/x")
    assert str(place / "y") == "abfss://container@account.dfs.core.windows.net/x/y"


def test_only_a_local_place_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Place.of("x").resolve().local == tmp_path / "x"
    assert Place.of("s3://b/x").resolve() == Place.of("s3://b/x")
    with pytest.raises(ValueError, match="not a local path"):
        _ = Place.of("s3://b/x").local


def test_it_goes_to_other_processes():
    place = Place.of("s3://bucket/x")
    assert pickle.loads(pickle.dumps(place)) == place and {place: 1}[Place.of("s3://bucket/x/")] == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("s3://", "no bucket in it; write s3://BUCKET/FOLDER"),
        ("s3:///folder", "no bucket in it"),
        ("abfss:///x", "no container"),
        ("s4://bucket/x", "scheme 's4' is not known; did you mean 's3'"),
        ("ftp://host/x", "scheme 'ftp' is not known"),
        ("s3:/bucket/x", "two slashes after its scheme; write s3://bucket/x"),
        ("gs:bucket/x", "write gs://bucket/x"),
        ("s3://bucket/a//b", "an empty part"),
        ("s3://bucket/../b", "'..' in the path"),
        ("file://host/x", "absolute path of this machine"),
        ("file://x", "absolute path of this machine"),
    ],
)
def test_a_malformed_place_is_refused(given, told):
    with pytest.raises(UserError, match=re.escape(told)):
        Place.of(given)


@pytest.mark.parametrize(
    "given",
    [
        "s3://me:hunter2@bucket/x",
        "s3://hunter2@bucket/x",
        "gs://me:hunter2@bucket",
        "s3://bucket/x?secret_key=hunter2&access_key=me",
    ],
)
def test_a_url_with_a_password_is_refused_without_repeating_it(given):
    with pytest.raises(UserError, match="no password") as caught:
        Place.of(given)
    assert "hunter2" not in str(caught.value)
