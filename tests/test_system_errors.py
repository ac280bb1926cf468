"""A message names the kind of a fault, its place, and the remedy of that kind."""

import errno
import os
import re
import subprocess
import sys

import pytest

from hpa_search import system_errors
from hpa_search.errors import UserError
from hpa_search.system_errors import NoLockService, Refused, as_os_error, hides_content, is_refusal, lasts, message, refusing

REMEDIES = {
    "ENOSPC": "no space is left.*make room.*another disk with --out",
    "EDQUOT": "quota is used up.*larger quota",
    "EACCES": f"user id {os.geteuid()} has no permission.*ls -ld",
    "EPERM": f"user id {os.geteuid()} has no permission",
    "EROFS": "read-only.*mount it for writing",
    "ENOLCK": "no lock service.*mount it with locks",
    "ENAMETOOLONG": "too long.*shorter",
    "ENOTDIR": "is a file, where a folder is expected",
    "EISDIR": "is a folder, where a file is expected.*name of a file",
    "ENOENT": "not there.*correct the path",
    "EEXIST": "there already",
    "ENOTEMPTY": "not empty",
    "ELOOP": "circle.*correct the link",
    "EMFILE": "ulimit -n",
    "ENFILE": "fs.file-max",
    "EIO": "broken or away.*dmesg",
    "ESTALE": "broken or away",
    "ETIMEDOUT": "broken or away",
    "ENOTCONN": "broken or away",
    "EHOSTDOWN": "broken or away",
    "EREMOTEIO": "broken or away",
    "ENODEV": "broken or away",
    "ENXIO": "broken or away",
    "EKEYEXPIRED": "kinit",
    "EFBIG": "too large.*ulimit -f",
    "EBUSY": "another program uses it.*lsof",
    "ETXTBSY": "another program uses it",
    "EPIPE": "nobody reads it any more",
    "ENOMEM": "not enough memory",
    "EOPNOTSUPP": "does not support this",
}


def fault(name, path=None):
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize("name", REMEDIES)
def test_each_kind_has_its_own_remedy(tmp_path, name):
    text = message(fault(name, str(tmp_path / "a")), tmp_path, option="--out", doing="the card cannot be written")
    head = f"{tmp_path / 'a'}: the card cannot be written: "
    assert text.startswith(head) and os.strerror(getattr(errno, name)) in text
    assert re.search(REMEDIES[name], text)
    told = {
        other
        for other in ("make room", "quota", "ls -ld", "mount it for", "with locks", "ulimit -n", "dmesg", "lsof")
        if other in text
    }
    assert len(told) <= 1, "the remedy of another kind"


def test_an_unknown_error_comes_without_advice(tmp_path):
    assert message(fault("EXDEV", str(tmp_path)), option="--out") == f"{tmp_path}: {os.strerror(errno.EXDEV)}"
    assert message(OSError("a library's own words"), tmp_path, option="--out") == f"{tmp_path}: a library's own words"


def test_the_place_is_the_error_s_else_the_caller_s(tmp_path):
    assert message(fault("EIO"), tmp_path, option="--out").startswith(f"{tmp_path}: ")
    two = OSError(errno.EIO, "words", "/from", None, "/to")
    assert message(two, tmp_path).startswith("/to: ")


def test_the_option_moves_its_own_place_alone(tmp_path):
    """An image of the dataset that cannot be read is not mended by another cache."""
    (tmp_path / "cache").mkdir()
    told = message(fault("EACCES", str(tmp_path / "data" / "a.png")), tmp_path / "cache", option="--cache", doing="the cache")
    assert "--cache" not in told and "the cache" not in told
    assert "--cache" in message(fault("EACCES", str(tmp_path / "cache" / "x")), tmp_path / "cache", option="--cache")
    # A lock or a temporary file lies beside the file that it is for.
    (tmp_path / "out.csv").touch()
    assert "--out" in message(fault("EACCES", str(tmp_path / ".out.csv.1.2")), tmp_path / "out.csv", option="--out")


def test_the_part_of_the_path_that_is_at_fault(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "away")
    assert f"the folder {tmp_path / 'new'} is not there" in message(fault("ENOENT", str(tmp_path / "new" / "a")))
    assert ": it is not there" in message(fault("ENOENT", str(tmp_path / "a")))
    assert f"{tmp_path / 'file'} is a file" in message(fault("ENOTDIR", str(tmp_path / "file" / "a" / "b")))
    for name in ("ENOENT", "EEXIST"):
        told = message(fault(name, str(tmp_path / "link" / "a")))
        assert f"what the link {tmp_path / 'link'} names, {tmp_path / 'away'}, is not there" in told
    assert "a file is there already" in message(fault("EEXIST", str(tmp_path / "file")))


def test_too_many_files_are_not_a_full_disk(tmp_path, monkeypatch):
    found = os.statvfs(tmp_path)

    class Full:
        f_files, f_favail, f_bavail = 1000, 0, found.f_bavail

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    assert "can hold no more files" in message(fault("ENOSPC", str(tmp_path / "a")))


def test_an_unsupported_lock_differs_from_an_unsupported_write(tmp_path):
    assert "no lock service" in message(NoLockService(errno.ENOSYS, "x", str(tmp_path)))
    assert "no lock service" in message(NoLockService(errno.EOPNOTSUPP, "x", str(tmp_path)))
    assert "lock service" not in message(fault("ENOSYS", str(tmp_path)))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("Symlink loop from '/a/b'"), "^/a/b: symbolic links lead in a circle"),
        (RuntimeError("Could not determine home directory."), "no home folder.*HOME"),
        (ValueError("embedded null byte"), "null byte"),
        (UnicodeEncodeError("latin-1", "é日.png", 1, 2, "no"), r"'\\xe9\\u65e5.png' has characters.*latin-1.*C.UTF-8"),
        (MemoryError(), "not enough memory"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "TMPDIR"),
    ],
)
def test_faults_of_the_system_that_are_not_os_errors(error, words):
    assert is_refusal(error)
    assert re.search(words, message(error))


def test_a_fault_of_the_program_is_not_a_refusal():
    assert not any(map(is_refusal, (ValueError("x"), RuntimeError("x"), KeyError("x"), UserError("x"))))


def test_a_current_folder_that_is_gone(tmp_path):
    program = (
        "import os, sys, errno; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "from pathlib import Path\nfrom hpa_search.system_errors import message\n"
        "for act in (os.getcwd, Path('a').touch, Path('a').absolute):\n"
        "    try: act()\n"
        "    except OSError as error: print(message(error, option='--out'))\n"
    )
    (tmp_path / "gone").mkdir()
    said = subprocess.run([sys.executable, "-c", program, tmp_path / "gone"], capture_output=True, text=True, check=True).stdout
    assert said.count("the current folder is gone") == 3 and said.count("cd to one that exists") == 3 and "--out" not in said


def test_a_connection_that_times_out_is_not_a_disk_s_fault():
    assert "disk" not in message(TimeoutError(errno.ETIMEDOUT, "timed out"))
    assert not lasts(TimeoutError(errno.ETIMEDOUT, "timed out"))
    assert lasts(OSError(errno.EIO, "x"))


def test_a_number_in_a_library_s_text_counts():
    error = Exception("SafetensorError: I/O error: No space left on device (os error 28)")
    assert as_os_error(error).errno == errno.ENOSPC and lasts(error)
    assert as_os_error(Exception("x")) is None


def test_what_says_nothing_of_a_file_s_content():
    assert all(hides_content(fault(name)) for name in ("EACCES", "EIO", "EMFILE", "ESTALE", "ENOMEM"))
    assert not any(hides_content(fault(name)) for name in ("ENOENT", "ENOTDIR", "EISDIR"))
    assert not hides_content(ValueError("x"))


def test_what_leaves_a_block_is_a_user_error_and_others_pass(tmp_path):
    with pytest.raises(Refused, match="make room"), refusing(tmp_path, option="--out"):
        raise fault("ENOSPC")
    for error in (UserError("mine"), KeyError("x")):
        with pytest.raises(type(error)), refusing(tmp_path):
            raise error


def test_no_kind_offers_what_only_another_mends():
    kinds = {kind for kind in vars(system_errors).values() if isinstance(kind, system_errors.Kind)}
    assert len({kind.remedy for kind in kinds}) == len(kinds)
    assert [kind for kind in kinds if "make room" in kind.remedy] and "make room" not in system_errors.DENIED.remedy
