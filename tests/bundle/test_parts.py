import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from hpa_search.bundle.parts import Parts, chunk_key
from hpa_search.errors import UserError


@pytest.fixture
def values():
    return np.random.default_rng(0).random((3, 28))


def test_a_part_reads_back_and_all_go_in_the_end(tmp_path, values):
    parts = Parts(tmp_path / "s.csv", ["k0", "k1"])
    assert parts.read(1, 3) is None
    parts.write(1, values)
    again = Parts(tmp_path / "s.csv", ["k0", "k1"])
    assert again.read(0, 3) is None
    np.testing.assert_array_equal(again.read(1, 3), values)
    again.remove()
    assert not list(tmp_path.iterdir())


def test_other_keys_and_outputs_see_nothing_of_it(tmp_path, values):
    Parts(tmp_path / "s.csv", ["k0"]).write(0, values)
    assert Parts(tmp_path / "t.csv", ["k0"]).read(0, 3) is None
    assert Parts(tmp_path / "s.csv", ["other"]).read(0, 3) is None
    assert Parts(tmp_path / "s.csv", ["k0"]).read(0, 3) is None, "what is of other work has gone"


def test_a_chunk_without_a_key_is_not_kept(tmp_path, values):
    parts = Parts(tmp_path / "s.csv", [None])
    parts.write(0, values)
    assert parts.read(0, 3) is None and not list(tmp_path.iterdir())


class Bomb:
    def __reduce__(self):
        return (exec, ("raise AssertionError('unpickled')",))


@pytest.mark.parametrize("damage", ["cut", "empty", "object", "pickle", "float32", "shape", "nan", "archive", "folder"])
def test_what_is_not_as_it_should_be_is_not_taken(tmp_path, values, damage):
    parts = Parts(tmp_path / "s.csv", ["k0"])
    parts.write(0, values)
    [path] = parts.folder.iterdir()
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "empty":
        path.touch()
    elif damage == "object":
        np.save(path, np.array([Bomb()] * 3, dtype=object), allow_pickle=True)
    elif damage == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif damage == "archive":
        with path.open("wb") as file:
            np.savez(file, values)
    elif damage == "folder":
        path.mkdir()
    else:
        changed = {"float32": values.astype(np.float32), "shape": values[:2], "nan": np.where(values > 0.5, np.nan, values)}
        np.save(path, changed[damage])
    assert parts.read(0, 3) is None


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / ".s.csv.parts").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Parts(tmp_path / "s.csv", ["k0"])


def test_a_key_sees_names_sizes_times_and_what_computes(tmp_path, write_images):
    write_images(tmp_path, "ab")
    keys = [chunk_key("this", tmp_path, ids) for ids in ("a", "b", "ab", "ba")] + [chunk_key("that", tmp_path, "a")]
    path = tmp_path / "a_red.png"
    before = path.stat()
    path.write_bytes(path.read_bytes() + b"0")
    keys.append(chunk_key("this", tmp_path, "a"))
    path.touch()
    keys.append(chunk_key("this", tmp_path, "a"))
    assert len(set(keys)) == len(keys) and before.st_size
    path.unlink()
    assert chunk_key("this", tmp_path, "a") is None


def test_parts_of_a_link_are_beside_what_it_names(tmp_path, values):
    (tmp_path / "big").mkdir()
    (tmp_path / "s.csv").symlink_to("big/s.csv")
    parts = Parts(tmp_path / "s.csv", ["k0"])
    parts.write(0, values)
    assert parts.folder == tmp_path / "big" / ".s.csv.parts"
    np.testing.assert_array_equal(Parts(tmp_path / "big" / "s.csv", ["k0"]).read(0, 3), values)


@pytest.mark.parametrize("kind", ["/dev/null", "/dev/stdout", "pipe"])
def test_parts_of_a_device_or_a_pipe_are_in_the_cache(tmp_path, values, kind):
    out = Path(kind) if kind != "pipe" else tmp_path / "pipe"
    if kind == "pipe":
        os.mkfifo(out)
    parts = Parts(out, ["k0"], tmp_path / "cache")
    parts.write(0, values)
    assert parts.folder.is_relative_to(tmp_path / "cache")
    np.testing.assert_array_equal(Parts(out, ["k0"], tmp_path / "cache").read(0, 3), values)
    assert Parts(out, ["other"], tmp_path / "cache").read(0, 3) is None
    assert Parts(out, ["k0"], tmp_path / "cache").read(0, 3) is not None, "another work has its own"
    parts.remove()
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_what_the_system_keeps_beside_parts_stays(tmp_path, values):
    Parts(tmp_path / "s.csv", ["k0"]).write(0, values)
    (tmp_path / ".s.csv.parts" / "@eaDir").mkdir()
    (tmp_path / ".s.csv.parts" / ".00001-k1.npy.77.abcdef01").touch()  # which a kill has left
    Parts(tmp_path / "s.csv", ["other"])
    assert [path.name for path in (tmp_path / ".s.csv.parts").iterdir()] == ["@eaDir"]
