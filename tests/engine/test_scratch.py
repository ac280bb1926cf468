"""The scratch folder is where Ray can make sockets, and nothing of it stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_search.engine import scratch
from hpa_search.engine.scratch import LOCK, PREFIX, scratch_folder
from hpa_search.errors import UserError
from tests.servers.disk import needs_mounts, small_disk


@pytest.fixture
def above(tmp_path_factory, monkeypatch):
    """A short folder that TMPDIR names, and no other candidate."""
    folder = Path(tmp_path_factory.mktemp("t"))
    monkeypatch.setattr(scratch, "FALLBACKS", ())
    for name in ("RAY_TMPDIR", "HOME"):
        monkeypatch.delenv(name, raising=False)
    short = Path(f"/tmp/{os.getpid()}")
    short.symlink_to(folder)
    monkeypatch.setenv("TMPDIR", str(short))
    yield short
    short.unlink()


def test_it_goes_with_the_block_whatever_happens_in_it(above):
    with pytest.raises(RuntimeError), scratch_folder() as folder:
        (folder / "session").mkdir()
        (folder / "session" / "log").write_text("a line")
        raise RuntimeError
    assert list(above.iterdir()) == []


def test_rays_own_folder_is_preferred_and_an_empty_variable_is_none(above, monkeypatch):
    (above / "ray").mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(above / "ray"))
    with scratch_folder() as folder:
        assert folder.parent == above / "ray"
    monkeypatch.setenv("RAY_TMPDIR", "")
    with scratch_folder() as folder:
        assert folder.parent == above


def test_a_path_too_long_for_a_socket_is_passed_over(above, monkeypatch):
    deep = above / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    with scratch_folder() as folder:
        assert folder.parent == above
    assert list(deep.iterdir()) == []


def test_where_none_serves_each_is_told_with_its_reason(above, monkeypatch):
    deep = above / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with (
        pytest.raises(
            UserError,
            match=r"x: no socket can be made .*/nowhere: No such file.*; set TMPDIR to a writable folder on a local disk",
        ),
        scratch_folder(),
    ):
        pass


@needs_mounts
def test_a_full_disk_is_passed_over(above, monkeypatch):
    with small_disk(above / "disk", megabytes=20) as disk:
        monkeypatch.setenv("RAY_TMPDIR", str(disk))
        with scratch_folder() as folder:
            assert folder.parent == above


HELD = "import sys, time; from hpa_search.engine.scratch import scratch_folder\nwith scratch_folder() as f: print(f, flush=True); time.sleep(600)"


def test_what_a_killed_driver_left_goes_and_what_a_living_one_has_stays(above):
    drivers = [subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        killed, living = (Path(driver.stdout.readline().strip()) for driver in drivers)
        drivers[0].kill()
        drivers[0].wait()
        for name in ("hpa-search-venv", f"{PREFIX}mine", "hpa-search-12345678"):
            (above / name).mkdir()
            (above / name / LOCK).touch()
            (above / name / ".lock").touch()
        with scratch_folder():
            assert not killed.exists()
            assert (living / LOCK).exists()
            assert len(list(above.glob("*/.lock"))) == 3
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()
            driver.stdout.close()
