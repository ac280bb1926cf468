import pickle

import numpy as np
import pytest

from hpa_search.errors import UserError
from hpa_search.labels import LABELS
from hpa_search.predictions.archive import Archive


def refused(path, read=lambda archive: None) -> str:
    with pytest.raises(UserError) as caught:
        archive = Archive(path)
        read(archive)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_in_it(npz, drawn):
    path, arrays = npz(groups=np.arange(150) // 2), drawn()
    archive = Archive(path)
    assert archive.names == ("good", "fair", "noise")
    assert archive.ids == tuple(arrays["ids"].tolist())
    np.testing.assert_array_equal(archive.labels(), arrays["labels"])
    assert archive.groups().tolist() == [str(row // 2) for row in range(150)]
    np.testing.assert_array_equal(archive.values("fair"), arrays["fair"])
    archive.close()


def test_without_labels_and_groups(npz):
    archive = Archive(npz(labels=None))
    assert archive.labels() is None and archive.groups() is None


@pytest.mark.parametrize("ids", [np.arange(150), np.array([f"{i}".encode() for i in range(150)])])
def test_ids_may_be_numbers_or_bytes(npz, ids):
    assert Archive(npz(ids=ids)).ids == tuple(map(str, range(150)))


def test_what_predict_writes_is_taken(npz):
    assert Archive(npz(label_names=np.array(LABELS))).names == ("good", "fair", "noise")
    assert "label_names" in refused(npz(label_names=np.array(LABELS[::-1])))


def test_no_ids(npz):
    assert "no array 'ids' with the names of the rows; it holds 'labels', 'good'" in refused(npz(ids=None))
    assert "'ids' is float64 of shape (150,)" in refused(npz(ids=np.ones(150)))
    assert "'ids' is <U1 of shape (2, 2)" in refused(npz(ids=np.full((2, 2), "a")))


class WorkingCopy:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_pickled_objects_are_refused_and_not_run(tmp_path, npz):
    planted = np.empty(150, dtype=object)
    planted[:] = WorkingCopy()
    said = refused(npz(good=planted), lambda archive: archive.values("good"))
    assert "array 'good' cannot be read" in said and "objects, which only pickle reads" in said
    assert "objects" in refused(npz(ids=planted))
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(WorkingCopy()))
    assert "cannot be read as .npz" in refused(tmp_path / "plain.npz")


@pytest.mark.parametrize("kept", [0, 10, 5000, -30])
def test_a_cut_file(npz, kept):
    path = npz()
    path.write_bytes(path.read_bytes()[:kept])
    assert "cannot be read as .npz" in refused(path)


def test_a_damaged_array(npz):
    path = npz()
    content = bytearray(path.read_bytes())
    place = content.index(b"good.npy") + 3000
    content[place : place + 50] = bytes(50)
    path.write_bytes(content)
    assert "array 'good' cannot be read" in refused(path, lambda archive: archive.values("good"))


def test_files_of_another_kind(tmp_path):
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    assert "a single array" in refused(tmp_path / "one.npz")
    assert "No such file" in refused(tmp_path / "missing.npz")
    assert "Is a directory" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page ('Sign in')"),
        (b"\x1f\x8b\x08\x00", "a gzip archive; unpack it"),
        (b"Id,Target\n", "text that begins with 'Id,Target'"),
    ],
)
def test_what_is_no_archive_is_told_by_what_it_is(tmp_path, content, words):
    (tmp_path / "p.npz").write_bytes(content)
    said = refused(tmp_path / "p.npz")
    assert words in said and "pickle" not in said
