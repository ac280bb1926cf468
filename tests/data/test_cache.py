import resource
import subprocess
import sys

import numpy as np
import pytest

from hpa_search.data.cache import make_once, pixels_file
from hpa_search.errors import UserError

FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from hpa_search.data.cache import make_once, pixels_file
from hpa_search.errors import UserError

def build(folder):
    with pixels_file(folder, (64, 4, 64, 64)) as write:
        for row in range(64):
            write(row, np.zeros((4, 64, 64), dtype=np.uint8))

resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    make_once(Path(sys.argv[1]) / "pack", lambda: False, build)
except UserError as error:
    print(error)
    sys.exit(2)
"""


def test_a_ready_folder_is_not_built_again(tmp_path):
    def build(folder):
        pytest.fail("built although ready")

    make_once(tmp_path / "pack", lambda: True, build)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "pack"

    def fails(folder):
        (folder / "part").write_text("half")
        assert not path.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(path, path.exists, fails)
    assert [entry.name for entry in tmp_path.iterdir()] == [".pack.lock"]
    make_once(path, path.exists, lambda folder: (folder / "whole").write_text("all") and None)
    assert (path / "whole").read_text() == "all"


def test_what_a_killed_builder_left_is_cleared(tmp_path):
    left = tmp_path / ".pack.building"
    left.mkdir()
    (left / "half").write_text("half")
    make_once(tmp_path / "pack", lambda: False, lambda folder: (folder / "whole").write_text("all") and None)
    assert not left.exists() and [entry.name for entry in (tmp_path / "pack").iterdir()] == ["whole"]


def test_rows_are_written_where_they_belong(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), dtype=np.uint8)
    with pixels_file(tmp_path, images.shape) as write:
        for row in (3, 0, 4, 1, 2):
            write(row, images[row])
    assert np.array_equal(np.load(tmp_path / "pixels.npy"), images)


def test_a_write_that_finds_no_room_is_a_user_error_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands for the full disk: the write fails in the middle, as it would there."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    ended = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "the image cache cannot be written" in ended.stdout and str(tmp_path) in ended.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == [".pack.lock"]


def test_more_than_the_disk_holds_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"needs 4503599.63 GB"), pixels_file(tmp_path, (2**38, 4, 64, 64)):
        pytest.fail("room for petabytes")
    assert not list(tmp_path.iterdir())


def test_a_cache_that_is_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make_once(tmp_path / "file" / "pack", lambda: False, lambda folder: None)
