import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from PIL import Image

from hpa_search.files import check_writable, whole, write_json, write_text
from tests.servers.disk import needs_mounts, small_disk


def test_a_file_appears_whole_with_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with whole(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "half"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), whole(path) as temporary:
        temporary.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = (
        "import sys, time, pathlib\n"
        "from hpa_search.files import whole\n"
        "with whole(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('new'); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    assert all(entry.name.startswith(".a.txt.") for entry in tmp_path.iterdir() if entry != path)
    write_text(path, "newer")
    assert path.read_text() == "newer"


def test_text_is_utf_8_and_json_has_no_nan(tmp_path):
    write_text(tmp_path / "a.txt", "å\n")
    assert (tmp_path / "a.txt").read_bytes() == "å\n".encode()
    write_json(tmp_path / "a.json", {"x": [1, 2.5]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "x": [\n    1,\n    2.5\n  ]\n}\n'


def test_a_folder_in_the_place_of_the_file_is_kept(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "a", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("target", ["big/sub.csv", "big/new.csv", "again"])
def test_a_link_stays_and_what_it_names_is_written(tmp_path, target):
    """Also through two links, to a file in another folder, and to one that is not there yet."""
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "sub.csv").write_text("old")
    (tmp_path / "again").symlink_to("big/sub.csv")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    with whole(link) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path / "big", "renamed on the same disk"
    assert link.is_symlink() and link.readlink().as_posix() == target and (tmp_path / "again").is_symlink()
    assert link.read_text() == "new" == (tmp_path / ("big/new.csv" if "new" in target else "big/sub.csv")).read_text()
    assert not list(tmp_path.rglob(".*"))


def test_a_link_to_a_folder_that_is_not_there_makes_none(tmp_path):
    """The folder may be on a disk that is not mounted."""
    (tmp_path / "a").symlink_to(tmp_path / "disk" / "a")
    for act in (lambda: write_text(tmp_path / "a", "x"), lambda: check_writable(tmp_path / "a")):
        with pytest.raises(FileNotFoundError) as fault:
            act()
        assert fault.value.filename == str(tmp_path / "a")
    assert not (tmp_path / "disk").exists() and (tmp_path / "a").is_symlink()


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for act in (lambda: write_text(tmp_path / "a", "x"), lambda: check_writable(tmp_path / "a")):
        with pytest.raises(OSError, match="symbolic links"):
            act()


def test_a_pipe_gets_the_content_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    check_writable(tmp_path / "pipe")
    write_text(tmp_path / "pipe", "text\n" * 100_000)
    reader.join()
    assert read == ["text\n" * 100_000] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_pipe_whose_reader_left_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(target=lambda: (tmp_path / "pipe").open("rb").close())
    reader.start()
    with pytest.raises(BrokenPipeError) as fault:
        write_text(tmp_path / "pipe", "text\n" * 1_000_000)
    reader.join()
    assert fault.value.filename == str(tmp_path / "pipe")


def test_a_device_is_written_to_and_stays(tmp_path):
    before = os.lstat("/dev/null")
    (tmp_path / "nothing").symlink_to("/dev/null")
    for path in ("/dev/null", str(tmp_path / "nothing")):
        check_writable(Path(path))
        write_text(Path(path), "x")
    assert os.path.samestat(os.lstat("/dev/null"), before) and (tmp_path / "nothing").is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_output_is_written_on_where_it_stands(tmp_path, name, kind):
    """A file that a shell opened for it is not replaced, nor what was said before overwritten."""
    program = (
        "import sys, pathlib\nfrom hpa_search.files import check_writable, write_text\n"
        "print('before'); check_writable(pathlib.Path(sys.argv[1])); write_text(pathlib.Path(sys.argv[1]), 'text\\n'); print('after')\n"
    )
    with (tmp_path / "file").open("wb") as file:
        inode = os.fstat(file.fileno()).st_ino
        out = file if kind == "file" else subprocess.PIPE
        ended = subprocess.run([sys.executable, "-c", program, name], stdout=out, check=True)
    said = ended.stdout if kind == "pipe" else (tmp_path / "file").read_bytes()
    assert said == b"before\ntext\nafter\n"
    assert (tmp_path / "file").stat().st_ino == inode and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_descriptor_that_is_not_open_or_not_for_writing_is_refused(tmp_path):
    (tmp_path / "a").write_text("mine")
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        for number in (descriptor, 999):
            with pytest.raises(OSError, match=f"Bad file descriptor: '/dev/fd/{number}'"):
                check_writable(Path(f"/dev/fd/{number}"))
    finally:
        os.close(descriptor)
    assert (tmp_path / "a").read_text() == "mine"


@needs_mounts
@pytest.mark.parametrize("folder", ["writable", "read-only"])
def test_a_file_that_is_mounted_by_itself_is_written_through(tmp_path, folder):
    """As a container's engine mounts a file of the host: nothing can be renamed over it."""
    (tmp_path / "host.csv").write_text("old and longer")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "sub.csv").touch()
    program = (
        "import subprocess, sys, pathlib\nfrom hpa_search.files import check_writable, write_text\n"
        "host, inside, folder = map(str, sys.argv[1:])\n"
        "def mount(*options): subprocess.run(['mount', *options], check=True)\n"
        "if folder == 'read-only': mount('-t', 'tmpfs', 'tmpfs', inside); pathlib.Path(inside, 'sub.csv').touch()\n"
        "mount('--bind', host, inside + '/sub.csv')\n"
        "if folder == 'read-only': mount('-o', 'remount,ro', inside)\n"
        "path = pathlib.Path(inside, 'sub.csv'); check_writable(path); write_text(path, 'new')\n"
        "print(sorted(path.name for path in path.parent.iterdir()))\n"
    )
    command = ["unshare", "--mount", sys.executable, "-c", program, tmp_path / "host.csv", tmp_path / "inside", folder]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "['sub.csv']\n"), ended.stderr
    assert (tmp_path / "host.csv").read_text() == "new"


@pytest.fixture
def umask():
    """Set the umask of this process for the test."""
    before = os.umask(0)
    yield os.umask
    os.umask(before)


WRITERS = {
    "text": lambda path: path.write_text("x"),
    "weights": lambda path: safetensors.torch.save_file({"a": torch.zeros(3)}, path),
    "checkpoint": lambda path: torch.save({"a": torch.zeros(3)}, path),
    "image": lambda path: Image.new("L", (2, 2)).save(path, format="PNG"),
    "graph": lambda path: onnx.save(onnx.ModelProto(), path),
}


@pytest.mark.parametrize(("mask", "mode"), [(0o002, 0o664), (0o027, 0o640), (0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_its_own(tmp_path, umask, mask, mode):
    """Whatever library writes it: others of the group can read a search that is shared."""
    own = {"old": 0o644, "private": 0o600, "public": 0o666}
    for name, own_mode in own.items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(own_mode)
    umask(mask)
    for name, write in {**WRITERS, **dict.fromkeys(own, WRITERS["weights"])}.items():
        with whole(tmp_path / name) as temporary:
            write(temporary)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert found == {**dict.fromkeys(WRITERS, mode), **own}


def test_a_name_of_any_length_that_is_one(tmp_path):
    for name in ("a" * 255, "日" * 85):
        check_writable(tmp_path / name)
        write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
    with pytest.raises(OSError, match="name too long"):
        write_text(tmp_path / ("a" * 256), "x")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("writer", ["numpy", "torch", "safetensors", "text"])
@needs_mounts
def test_a_full_disk_is_named_whatever_the_writer_says(tmp_path, writer):
    many = np.zeros(3 << 20, dtype=np.uint8)
    write = {
        "numpy": lambda path: path.open("wb").write(many.tobytes()),
        "torch": lambda path: torch.save({"a": torch.from_numpy(many)}, path),
        "safetensors": lambda path: safetensors.numpy.save_file({"a": many}, path),
        "text": lambda path: path.write_bytes(many.tobytes()),
    }[writer]
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        write_text(disk / "a", "old")
        with pytest.raises(OSError, match="No space left") as fault, whole(disk / "a") as temporary:
            write(temporary)
        assert (fault.value.errno, fault.value.filename) == (errno.ENOSPC, str(disk / "a"))
        assert [path.name for path in disk.iterdir()] == ["a"] and (disk / "a").read_text() == "old"


def test_a_file_system_that_cannot_sync_is_not_a_fault(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.parametrize("place", ["folder", "file/below", "missing/a/b.csv", "dead/b.csv"])
def test_where_no_file_can_be_written_is_known_before(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dead").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    if place.startswith("missing"):
        check_writable(tmp_path / place)
    else:
        with pytest.raises(OSError, match=re_of(tmp_path / place)):
            check_writable(tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def re_of(path):
    return str(path).replace(".", r"\.")
