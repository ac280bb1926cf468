"""A local folder against a real server: what goes which way, in which order, and what is never touched."""

import pytest

from hpa_search.storage.mirror import Mirror, matches
from hpa_search.storage.store import Store


@pytest.fixture
def store(bucket):
    return Store(bucket / "out")


class Watched(Store):
    """Writes down what is asked of it."""

    def __init__(self, place):
        super().__init__(place)
        self.done = []

    def push(self, path, name):
        self.done.append(("push", name))
        return super().push(path, name)

    def fetch(self, name, path, listed=None):
        self.done.append(("fetch", name))
        return super().fetch(name, path, listed)

    def delete(self, name):
        self.done.append(("delete", name))
        super().delete(name)


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def held(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "patterns", "meant"),
    [
        ("a", (), True),
        ("a", ("a", "b"), True),
        ("a/b", ("a",), False),
        ("a/b", ("a/",), True),
        ("trials/1/metrics.csv", ("trials/*/metrics.csv",), True),
        ("trials/1/logits.npz", ("trials/*/metrics.csv",), False),
    ],
)
def test_patterns(name, patterns, meant):
    assert matches(name, patterns) is meant


def test_only_what_was_asked_for_comes_and_only_once(store, tmp_path):
    for name in ("search.yaml", "trials/1/metrics.csv", "trials/1/weights/x", "trials/2/metrics.csv", "other"):
        store.write(name, name.encode())
    watched = Watched(store.place)
    mirror = Mirror(watched, tmp_path)
    mirror.fetch("search.yaml", "trials/*/metrics.csv", "none")
    assert set(held(tmp_path)) == {"search.yaml", "trials/1/metrics.csv", "trials/2/metrics.csv"}
    assert mirror.has("trials/1/weights/x") and mirror.has("search.yaml") and not mirror.has("none")
    before = list(watched.done)
    mirror.fetch("search.yaml", "trials/*/metrics.csv")
    mirror.push()
    assert watched.done == before
    mirror.fetch()
    assert held(tmp_path)["other"] == "other" and len(watched.done) == 5


def test_what_changed_or_went_there_changes_and_goes_here(store, tmp_path):
    mirror = Mirror(store, tmp_path)
    for name in "abc":
        store.write(name, b"old")
    mirror.fetch()
    store.write("a", b"longer")
    store.delete("b")
    mirror.fetch()
    assert held(tmp_path) == {"a": "longer", "c": "old"}


def test_what_was_changed_here_is_not_overwritten_before_it_is_pushed(store, tmp_path):
    mirror = Mirror(store, tmp_path)
    for name in "abc":
        store.write(name, b"old")
    mirror.fetch()
    write(tmp_path, "a", "mine, and longer")
    (tmp_path / "b").unlink()
    write(tmp_path, "new", "mine")
    store.write("a", b"theirs")
    store.write("new", b"theirs")
    store.delete("a")
    mirror.fetch()
    assert held(tmp_path) == {"a": "mine, and longer", "c": "old", "new": "mine"}
    mirror.push()
    assert store.read("a") == b"mine, and longer" and store.read("new") == b"mine" and store.read("b") == b"old"


def test_only_changes_are_pushed_and_hidden_files_stay(store, tmp_path):
    watched = Watched(store.place)
    mirror = Mirror(watched, tmp_path)
    for name in ("a", "b/c", ".hidden", "b/.c.123", ".scratch/x"):
        write(tmp_path, name, name)
    mirror.push()
    assert set(store.list()) == {"a", "b/c"}
    write(tmp_path, "a", "another")
    mirror.push()
    assert sorted(watched.done[:2]) == [("push", "a"), ("push", "b/c")] and watched.done[2:] == [("push", "a")]


def test_the_order_is_kept_and_what_goes_goes_last(store, tmp_path):
    watched = Watched(store.place)
    mirror = Mirror(watched, tmp_path, order=(("weights/*", "logits"), ("checkpoint",), ()), deletes=("weights/*",))
    for name in ("metrics", "checkpoint", "weights/1"):
        write(tmp_path, name, "1")
    mirror.push()
    (tmp_path / "weights/1").unlink()
    for name in ("metrics", "checkpoint", "weights/2", "logits"):
        write(tmp_path, name, "22")
    watched.done.clear()
    mirror.push()
    names = [name for _, name in watched.done]
    assert set(names[:2]) == {"weights/2", "logits"} and names[2:] == ["checkpoint", "metrics", "weights/1"]
    assert watched.done[-1] == ("delete", "weights/1")


def test_unknown_and_unnamed_files_are_never_deleted(store, tmp_path):
    mirror = Mirror(store, tmp_path, deletes=("weights/*",))
    for name in ("weights/1", "metrics"):
        store.write(name, b"1")
    mirror.fetch()
    store.write("weights/2", b"a successor's")
    for path in (tmp_path / "weights/1", tmp_path / "metrics"):
        path.unlink()
    mirror.push()
    assert set(store.list()) == {"weights/2", "metrics"}
    bare = Mirror(store, tmp_path / "empty", deletes=("*",))
    bare.push()
    assert set(store.list()) == {"weights/2", "metrics"}


def test_pushing_by_name_leaves_the_rest(store, tmp_path):
    mirror = Mirror(store, tmp_path, deletes=("*",))
    for name in ("a", "b"):
        write(tmp_path, name, name)
    mirror.push()
    (tmp_path / "a").unlink()
    write(tmp_path, "b", "another")
    write(tmp_path, "c", "c")
    mirror.push("c")
    assert store.read("b") == b"b" and set(store.list()) == {"a", "b", "c"}


def test_it_knows_whether_somebody_else_wrote(store, tmp_path):
    mirror = Mirror(store, tmp_path)
    assert mirror.knows("a")
    write(tmp_path, "a", "a")
    mirror.push()
    assert mirror.knows("a")
    store.write("a", b"somebody else's")
    assert not mirror.knows("a")


class Killed(BaseException):
    """Nothing that a program handles."""


def test_a_push_that_is_killed_anywhere_is_completed_by_the_next(store, tmp_path):
    class Dying(Store):
        left = 2

        def push(self, path, name):
            if self.left == 0:
                raise Killed
            self.left -= 1
            return super().push(path, name)

    mirror = Mirror(Dying(store.place), tmp_path, order=(("1",), ("2",), ("3",), ()))
    for name in "1234":
        write(tmp_path, name, name)
    with pytest.raises(Killed):
        mirror.push()
    assert set(store.list()) == {"1", "2"}
    mirror.store.left = 2
    mirror.push()
    assert set(store.list()) == set("1234")


def test_what_the_system_leaves_is_neither_pushed_nor_fetched(store, tmp_path):
    for name in ("a", ".DS_Store", "lost+found/b", "trials/@eaDir/c", "Thumbs.db"):
        write(tmp_path / "here", name, "1")
    Mirror(store, tmp_path / "here").push()
    assert set(store.list()) == {"a"}
    store.write("trials/._metrics.csv", b"1")
    store.write("#recycle/a", b"1")
    Mirror(store, tmp_path / "there").fetch()
    assert set(held(tmp_path / "there")) == {"a"}
