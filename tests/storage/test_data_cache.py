import multiprocessing
import os
import pwd
import time
from pathlib import Path

import pytest

from hpa_search.errors import UserError
from hpa_search.storage.data_cache import default_cache, local_folder, localise, usable
from hpa_search.storage.opened import opened
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store


@pytest.fixture
def place(bucket):
    store = Store(bucket / "data")
    for row in range(30):
        store.write(f"train/{row}_red.png", b"pixels" * row)
    store.write("train.csv", b"Id,Target\n")
    store.write("archive.zip", b"large, and no part of a dataset")
    return bucket / "data"


def held(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_local_folder_is_its_own(tmp_path):
    folder = tmp_path / "data"
    assert localise(folder, tmp_path / "cache") == folder == local_folder(Place.of(folder), tmp_path / "cache")


def test_it_is_fetched_once(place, tmp_path, fetched):
    told = []
    folder = localise(place, tmp_path, lambda done, of: told.append((done, of)))
    assert folder == local_folder(place, tmp_path)
    assert held(folder) == {name: Store(place).read(name) for name in Store(place).list() if name != "archive.zip"}
    assert len(fetched) == 31 and told == [(done, 31) for done in range(1, 32)]
    assert localise(place, tmp_path) == folder and len(fetched) == 31


def test_changes_are_noticed(place, tmp_path, fetched):
    folder = localise(place, tmp_path)
    fetched.clear()
    Store(place).write("train/3_red.png", b"other")
    Store(place).write("train/99_red.png", b"new")
    Store(place).delete("train/4_red.png")
    time.sleep(1.1)  # the times of objects are in seconds
    Store(place).write("train/5_red.png", b"PIXELS" * 5)
    localise(place, tmp_path)
    assert sorted(fetched) == ["train/3_red.png", "train/5_red.png", "train/99_red.png"]
    assert (folder / "train/5_red.png").read_bytes() == b"PIXELS" * 5 and not (folder / "train/4_red.png").exists()


def test_a_stopped_fetch_resumes(place, tmp_path, monkeypatch, fetched):
    real, left = Store.fetch, [10]

    def failing(self, name, *rest):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, name, *rest)

    monkeypatch.setattr(Store, "fetch", failing)
    with pytest.raises(KeyboardInterrupt):
        localise(place, tmp_path)
    there = len(held(local_folder(place, tmp_path)))
    assert 0 < there <= 10
    monkeypatch.setattr(Store, "fetch", real)
    left[0] = 10**6
    fetched.clear()
    monkeypatch.setattr(Store, "fetch", failing)
    assert len(held(localise(place, tmp_path))) == 31 and 10**6 - left[0] == 31 - there


def _localise(place, cache, out):
    seen = []
    localise(place, cache, lambda done, of: seen.append(done))
    out.put(len(seen))


def test_of_two_processes_one_fetches(place, tmp_path):
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    processes = [context.Process(target=_localise, args=(place, tmp_path, out)) for _ in range(2)]
    for process in processes:
        process.start()
    counts = sorted(out.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert counts == [0, 31]


def test_an_empty_place_is_refused(bucket, tmp_path):
    with pytest.raises(UserError, match=r"no \.csv, \.png, \.jpg, \.jpeg file below it"):
        localise(bucket / "none", tmp_path)


def test_a_cache_that_cannot_be_written_is_refused(place, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the cache cannot be written"):
        localise(place, tmp_path / "file")


@pytest.fixture
def nobody(monkeypatch):
    """A user without HOME and without a line in /etc/passwd."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("HPA_SEARCH_CACHE", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    monkeypatch.setattr("os.path.expanduser", lambda path: path)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_the_cache_is_in_the_home_folder_where_nothing_is_said(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HPA_SEARCH_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("HPA_SEARCH_CACHE", value)
    assert default_cache() == tmp_path / ".cache" / "hpa-search"


@pytest.mark.parametrize(("value", "expected"), [("/scratch/c", "/scratch/c"), ("~/c", "HOME/c"), ("c", "c")])
def test_a_cache_that_is_named(monkeypatch, tmp_path, value, expected):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HPA_SEARCH_CACHE", value)
    assert str(default_cache()) == expected.replace("HOME", str(tmp_path))


def test_an_empty_home_is_not_the_root_folder(monkeypatch):
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HPA_SEARCH_CACHE", raising=False)
    assert default_cache() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "hpa-search"


@pytest.mark.parametrize("home", [None, ""])
def test_nobody_s_cache_is_asked_for_only_where_it_is_needed(nobody, monkeypatch, tmp_path, home):
    if home is not None:
        monkeypatch.setenv("HOME", home)
    cache = default_cache()
    assert localise(tmp_path, cache) == tmp_path
    with opened(tmp_path, cache) as work:
        assert work.folder == tmp_path
    for act in (lambda: usable(cache), lambda: localise(Place.of("s3://b/x"), cache)):
        with pytest.raises(UserError, match="no home folder.*--cache FOLDER, or set HPA_SEARCH_CACHE or HOME"):
            act()
    monkeypatch.setenv("HPA_SEARCH_CACHE", str(tmp_path))
    assert usable(default_cache()) == tmp_path
