import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpa_search.errors import UserError
from hpa_search.storage import opened as module
from hpa_search.storage.opened import MIRRORS, opened
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store


def test_a_local_folder_is_opened_as_it_is(tmp_path):
    with opened(tmp_path / "out", tmp_path / "cache", "a") as work:
        assert work.folder == tmp_path / "out" and work.names() == []
        work.folder.mkdir()
        (work.folder / "a").write_text("a")
        work.fetch("a")
        work.obtain([work.folder / "a"])
        work.push()
        assert work.has(work.folder / "a") and not work.has(work.folder / "b") and work.names() == ["a"]
        assert work.shown(f"{tmp_path}/out/a") == f"{tmp_path}/out/a"
    assert not (tmp_path / "cache").exists()


def test_of_a_remote_folder_what_was_asked_for_is_there_and_gone_afterwards(bucket, tmp_path):
    place = bucket / "out"
    for name in ("a", "b", "c/d"):
        Store(place).write(name, name.encode())
    with opened(place, tmp_path, "a") as work:
        assert [path.name for path in work.folder.iterdir()] == ["a"]
        work.fetch("c/*")
        assert work.has(work.folder / "c/d") and work.names() == ["a", "b", "c"]
        (work.folder / "new").write_text("not pushed: it is not kept")
    assert set(Store(place).list()) == {"a", "b", "c/d"}
    assert list((tmp_path / MIRRORS).iterdir()) == []


def test_an_opened_folder_is_not_opened_again(bucket, tmp_path):
    Store(bucket / "out").write("a", b"a")
    with opened(bucket / "out", tmp_path) as work, opened(work, tmp_path, "a") as same:
        assert same is work and (work.folder / "a").read_text() == "a"


def test_written_files_are_kept(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.1)
    with opened(bucket / "out", tmp_path, keeps=True) as work:
        (work.folder / "early").write_text("1")
        deadline = time.monotonic() + 10
        while Store(bucket / "out").look("early") is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (work.folder / "late").write_text("2")
    assert set(Store(bucket / "out").list()) == {"early", "late"}


def test_what_was_written_before_an_exception_is_kept_too(bucket, tmp_path):
    with pytest.raises(KeyboardInterrupt), opened(bucket / "out", tmp_path, keeps=True) as work:
        (work.folder / "a").write_text("1")
        raise KeyboardInterrupt
    assert set(Store(bucket / "out").list()) == {"a"}


def test_messages_name_the_place(bucket, tmp_path):
    said = []
    with pytest.raises(UserError) as caught, opened(bucket / "out", tmp_path) as work:
        work.saying(said.append)(f"see {work.folder / 'trials'}/*/error.txt, or {work.folder}")
        raise UserError(f"{work.folder}: no search here ({work.folder / 'a.csv'}, line 3); {tmp_path} is another")
    assert str(caught.value) == f"{bucket}/out: no search here ({bucket}/out/a.csv, line 3); {tmp_path} is another"
    assert said == [f"see {bucket}/out/trials/*/error.txt, or {bucket}/out"]


def test_a_query_stays_at_the_end_of_a_shown_place(s3, bucket, tmp_path):
    place = Place.of(f"{bucket}/out?scheme=http")
    with opened(place, tmp_path) as work:
        assert work.shown(f"{work.folder}/a.csv: bad") == f"{bucket}/out/a.csv?scheme=http: bad"


def test_a_missing_bucket_is_reported_at_once(s3, tmp_path):
    with pytest.raises(UserError, match="there is no bucket 'nowhere'"), opened(Place.of("s3://nowhere/x"), tmp_path):
        pass


def test_a_cache_that_cannot_be_written_is_refused(bucket, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the cache cannot be written"), opened(bucket / "out", tmp_path / "file"):
        pass


CHILD = """
import sys, time
from pathlib import Path
from hpa_search.storage.opened import mirror_folder
from hpa_search.storage.place import Place
with mirror_folder(Path(sys.argv[1]), Place.of("s3://b/x")) as folder:
    (folder / "a").write_text("left")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_goes_and_a_living_ones_stays(bucket, tmp_path):
    children = [subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in "12"]
    try:
        folders = [Path(child.stdout.readline().strip()) for child in children]
        os.kill(children[0].pid, signal.SIGKILL)
        children[0].wait()
        with opened(bucket / "out", tmp_path):
            assert not folders[0].exists() and (folders[1] / "a").read_text() == "left"
    finally:
        for child in children:
            child.kill()
            child.wait()
