"""Locks where the file system has them, and where it has none."""

import errno
import os
import subprocess
import sys

import pytest

from hpa_search import locks
from hpa_search.locks import HeldError, Lock
from hpa_search.system_errors import NoLockService, message

pytestmark = pytest.mark.filterwarnings("ignore:flock not supported")

REFUSED = """
import errno, fcntl, os, sys
def refuse(descriptor, operation):
    raise OSError(getattr(errno, sys.argv[1]), os.strerror(getattr(errno, sys.argv[1])))
fcntl.flock = refuse
"""


@pytest.fixture
def no_flock(monkeypatch):
    """A function that makes flock fail with an errno in this process."""

    def refuse(number):
        def flock(descriptor, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", flock)

    return refuse


def run(program, *arguments):
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_one_at_a_time_and_again_after_it(tmp_path):
    with Lock(tmp_path / "a.lock"), pytest.raises(HeldError):
        Lock(tmp_path / "a.lock").try_acquire()
    with Lock(tmp_path / "a.lock", brief=True):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path, no_flock, number):
    no_flock(number)
    for lock in (Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock", brief=True), Lock(tmp_path / "a.lock", marker=False)):
        for act in (lock.acquire, lock.try_acquire):
            with pytest.raises(NoLockService) as fault:
                act()
            assert "no lock service" in message(fault.value) and str(tmp_path / "a.lock") in message(fault.value)


def test_without_flock_a_marker_excludes_others_silently(tmp_path, no_flock):
    no_flock(errno.ENOSYS)
    for _ in range(2):
        with Lock(tmp_path / "a.lock"), pytest.raises(HeldError):
            Lock(tmp_path / "a.lock").try_acquire()
    assert list(tmp_path.iterdir()) == []
    said = run(
        REFUSED + "from hpa_search.locks import Lock; import pathlib\nwith Lock(pathlib.Path(sys.argv[2])): print('held')\n",
        "ENOSYS",
        tmp_path / "a",
    )
    assert (said.stdout, said.stderr) == ("held\n", "")


def test_missing_flock_is_an_error_where_no_marker_may_be(tmp_path, no_flock):
    no_flock(errno.ENOSYS)
    with pytest.raises(NoLockService):
        Lock(tmp_path / "a.lock", marker=False).try_acquire()


@pytest.mark.parametrize("exchange", [True, False])
def test_a_marker_of_a_killed_process_is_taken_over(tmp_path, no_flock, monkeypatch, exchange):
    """Also where the file system cannot exchange two names, as file servers cannot, without which filelock leaves it."""
    killed = (
        REFUSED
        + "from hpa_search.locks import Lock; import pathlib\nlock = Lock(pathlib.Path(sys.argv[2])); lock.acquire(); os._exit(9)\n"
    )
    assert run(killed, "ENOSYS", tmp_path / "a.lock").returncode == 9
    assert (tmp_path / "a.lock").exists()
    no_flock(errno.ENOSYS)
    monkeypatch.setattr(locks, "LEFT_SECONDS", 0.2)
    if not exchange:
        monkeypatch.setattr("filelock._soft.exchange_names", lambda *names: False, raising=False)
    with Lock(tmp_path / "a.lock", brief=True):
        pass


def test_a_marker_of_another_machine_is_taken_over_when_it_stays_and_not_while_it_changes(tmp_path, no_flock, monkeypatch):
    no_flock(errno.ENOSYS)
    monkeypatch.setattr(locks, "LEFT_SECONDS", 0.1)
    path, looks = tmp_path / "a.lock", []
    path.write_text("1\nanother.machine\n")
    signature = locks._signature

    def busy(path):
        looks.append(path)
        if len(looks) < 4:  # as of a holder that gives it back and takes it again
            path.unlink()
            path.write_text("1\nanother.machine\n")
            os.utime(path, (len(looks), len(looks)))
        return signature(path)

    monkeypatch.setattr(locks, "_signature", busy)
    with Lock(path, brief=True):
        assert len(looks) == 4


def test_a_lock_of_the_kernel_is_waited_for_however_long_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEFT_SECONDS", 0.1)
    program = (
        "import pathlib, sys, time\nfrom hpa_search.locks import Lock\n"
        "with Lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "a.lock"], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        inode = (tmp_path / "a.lock").stat().st_ino
        with Lock(tmp_path / "a.lock", brief=True):
            assert holder.wait() == 0 and (tmp_path / "a.lock").stat().st_ino == inode


def test_a_lock_in_a_folder_that_cannot_be_written_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists") as fault:
        Lock(tmp_path / "file" / "a.lock").acquire()
    assert fault.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize(("umask", "mode"), [("002", 0o664), ("027", 0o640)])
def test_others_of_the_group_may_take_it_too(tmp_path, umask, mode):
    program = "import os, sys, pathlib; os.umask(int(sys.argv[2], 8))\nfrom hpa_search.locks import Lock\nwith Lock(pathlib.Path(sys.argv[1])): pass\n"
    assert run(program, tmp_path / "a.lock", umask).returncode == 0
    assert (tmp_path / "a.lock").stat().st_mode & 0o777 == mode
