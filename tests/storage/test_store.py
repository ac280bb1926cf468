"""Against a real S3 server over HTTP: what it holds, and what it says when something is wrong."""

import os
import threading
import time

import pytest

from hpa_search.errors import UserError
from hpa_search.storage import filesystem, patience, store
from hpa_search.storage.faults import Missing, explained, is_transient
from hpa_search.storage.patience import Unreachable
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from tests.servers.s3 import Canned, Process, client, environment

pytestmark = pytest.mark.long


def test_an_object_is_written_read_listed_and_deleted(bucket, tmp_path):
    files = Store(bucket / "out")
    assert files.list() == {} and files.look("a.txt") is None
    (tmp_path / "local").write_bytes(b"from a file")
    stored = files.write("a.txt", b"hello"), files.push(tmp_path / "local", "trials/0001/b.txt")
    assert [one.size for one in stored] == [5, 11] and abs(stored[0].changed - time.time()) < 60
    assert files.list() == {"a.txt": stored[0], "trials/0001/b.txt": stored[1]}
    assert files.list("trials") == {"trials/0001/b.txt": stored[1]}
    assert set(files.list(recursive=False)) == {"a.txt", "trials/"}
    assert files.look("a.txt") == stored[0] and files.look("trials") is None
    assert files.read("a.txt") == b"hello"
    files.delete("a.txt")
    files.delete("a.txt")
    assert files.list() == {"trials/0001/b.txt": stored[1]}
    assert Store(Place.of(str(bucket))).list() == {"out/trials/0001/b.txt": stored[1]}


def test_a_fetched_file_has_the_objects_time_and_appears_whole(bucket, tmp_path):
    files = Store(bucket / "out")
    stored = files.write("x/a.bin", b"1" * 1000)
    assert files.fetch("x/a.bin", tmp_path / "new/folder/a.bin") == stored
    path = tmp_path / "new/folder/a.bin"
    assert path.read_bytes() == b"1" * 1000 and int(path.stat().st_mtime) == stored.changed
    assert [one.name for one in path.parent.iterdir()] == ["a.bin"]
    with pytest.raises(Missing, match="out/x/none: not there"):
        files.fetch("x/none", tmp_path / "none")
    with pytest.raises(Missing):
        files.read("x/none")
    assert not (tmp_path / "none").exists()


def test_large_and_empty_objects(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 6 * 2**20)
    content = os.urandom(15 * 2**20 + 3)
    (tmp_path / "large").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    files = Store(bucket)
    assert files.push(tmp_path / "large", "large").size == len(content)
    assert files.push(tmp_path / "empty", "empty").size == 0
    files.fetch("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    files.fetch("empty", tmp_path / "none")
    assert (tmp_path / "none").read_bytes() == b""


def test_an_object_that_was_replaced_since_it_was_listed_is_fetched_as_it_is_now(bucket, tmp_path):
    files = Store(bucket)
    listed = files.write("a", b"old")
    now = files.write("a", b"the new one")
    assert files.fetch("a", tmp_path / "a", listed) == now
    assert (tmp_path / "a").read_bytes() == b"the new one"


def test_the_endpoint_may_be_in_the_url(s3, bucket, monkeypatch):
    Store(bucket).write("a", b"here")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    place = Place.of(f"{bucket}?endpoint_override=127.0.0.1:{s3.port}&scheme=http")
    assert Store(place).read("a") == b"here"
    assert Store(Place.of(f"{bucket}?endpoint_override={s3.url}")).read("a") == b"here"
    with pytest.raises(UserError, match="'endpoint' is not a setting of S3; did you mean 'endpoint_override'"):
        Store(Place.of(f"{bucket}?endpoint=127.0.0.1:{s3.port}")).read("a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:secret@host:9000")
    with pytest.raises(UserError, match="without a user") as caught:
        Store(bucket)
    assert "secret" not in str(caught.value)


def test_without_a_region_an_endpoint_is_asked_all_the_same(bucket, monkeypatch, tmp_path):
    for name in ("AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    began = time.monotonic()
    assert Store(bucket).write("a", b"hello").size == 5
    assert time.monotonic() - began < 5


def test_without_credentials_it_says_so_and_does_not_hang(bucket, monkeypatch, tmp_path):
    Store(bucket).write("a", b"hello")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(UserError, match="access is refused; set AWS_ACCESS_KEY_ID"):
        Store(bucket).look("a")
    assert time.monotonic() - began < 5


def test_a_missing_bucket_is_named(s3):
    for call in (lambda f: f.list(), lambda f: f.reach(), lambda f: f.write("a", b"")):
        with pytest.raises(UserError, match=f"s3://nowhere/out.*{s3.url}.*there is no bucket 'nowhere'; make it first"):
            call(Store(Place.of("s3://nowhere/out")))


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_refused_credentials_are_reported_at_once(monkeypatch, code):
    server = Canned("403 Forbidden", code)
    for name, value in environment(server.url).items():
        monkeypatch.setenv(name, value)
    try:
        for call in (lambda f: f.list(), lambda f: f.look("a"), lambda f: f.write("a", b""), lambda f: f.read("a")):
            began = time.monotonic()
            with pytest.raises(UserError, match="access is refused; set AWS_ACCESS_KEY_ID") as caught:
                call(Store(Place.of("s3://bucket/out")))
            assert not isinstance(caught.value, Unreachable) and time.monotonic() - began < 20
            assert server.url in str(caught.value)
    finally:
        server.end()


@pytest.mark.parametrize(
    ("status", "code"), [("503 Slow Down", "SlowDown"), ("500 Oh", "InternalError"), ("502 Bad Gateway", "")]
)
def test_a_failing_server_is_tried_again(monkeypatch, status, code):
    server = Canned(status, code)
    for name, value in environment(server.url).items():
        monkeypatch.setenv(name, value)
    try:
        with pytest.raises(Unreachable, match="did not answer for .*AWS_ENDPOINT_URL"):
            Store(Place.of("s3://bucket/out"), first=2.0).list()
        assert server.asked >= 4
    finally:
        server.end()


def test_an_outage_is_waited_out(s3, bucket, monkeypatch):
    monkeypatch.setattr(patience, "QUIET", 0.5)
    told = []
    files = Store(bucket / "out", tell=told.append)
    files.write("a", b"before")
    with s3.away_for(3):
        assert files.write("b", b"after").size == 5
    assert set(files.list()) == {"a", "b"}
    assert len(told) == 2 and "does not answer" in told[0] and told[1].endswith("answers again; continuing.")


def test_a_silent_endpoint_fails_after_the_patience_for_a_first_answer(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(Unreachable, match="endpoint http://127.0.0.1:9.*did not answer"):
        Store(Place.of("s3://bucket/out"), first=1.5).reach()
    assert time.monotonic() - began < 8


def test_a_server_that_hangs_is_waited_for(monkeypatch):
    monkeypatch.setattr(filesystem, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(filesystem, "ATTEMPTS", 1)
    monkeypatch.setattr(patience, "QUIET", 0.0)
    server, told = Process(), []
    try:
        for name, value in environment(server.url).items():
            monkeypatch.setenv(name, value)
        client(server.url).create_bucket(Bucket="bucket")
        files = Store(Place.of("s3://bucket/out"), tell=told.append)
        files.write("a", b"before")
        server.hang()
        with pytest.raises(Unreachable, match="(?i)slow|time"):
            Store(Place.of("s3://bucket/out"), first=2.0).look("a")
        threading.Timer(4.0, server.go_on).start()
        assert files.look("a").size == 6
        assert len(told) == 2 and "answers again" in told[1]
        assert files.write("b", b"after").size == 5
    finally:
        server.end()


def test_what_the_local_disk_says_is_not_taken_for_the_stores_word(bucket, tmp_path):
    files = Store(bucket)
    files.write("a", b"hello")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        files.fetch("a", tmp_path / "file" / "a")
    assert caught.value.errno is not None
    with pytest.raises(FileNotFoundError):
        files.push(tmp_path / "none", "b")


@pytest.mark.parametrize(
    ("text", "transient"),
    [
        ("google::cloud::Status(UNAVAILABLE: Retry policy exhausted)", True),
        ("Azure Error: [503 The server is busy.] ServerBusy", True),
        ("Fail to get a new connection for: https://account.dfs.core.windows.net. Couldn't connect to server", True),
        ("curlCode: 60, SSL peer certificate or SSH remote key was not OK, NETWORK_CONNECTION", False),
        ("google::cloud::Status(PERMISSION_DENIED: no)", False),
        (
            "AWS Error UNKNOWN (HTTP status 301) during ListObjectsV2 operation: Unable to parse ExceptionName: PermanentRedirect",
            False,
        ),
    ],
)
def test_other_stores_words_are_known(text, transient):
    assert is_transient(OSError(text)) is transient


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("curlCode: 60, SSL peer certificate was not OK", "AWS_CA_BUNDLE"),
        ("AWS Error UNKNOWN (HTTP status 301): PermanentRedirect", "in another region; set AWS_REGION"),
        ("AWS Error UNKNOWN (HTTP status 400): ExpiredToken", "AWS_SESSION_TOKEN"),
    ],
)
def test_what_to_do_is_said(text, told):
    assert told in str(explained(OSError(text), Place.of("s3://bucket/x"), "Amazon S3"))


def test_clients_of_other_stores_are_made_without_asking_anybody():
    for url in ("gs://bucket/x", "abfss://container@account.dfs.core.windows.net/x"):
        assert filesystem.file_system(Place.of(url)) is not None
    with pytest.raises(UserError, match="foo"):
        filesystem.file_system(Place.of("gs://bucket/x?foo=1"))
