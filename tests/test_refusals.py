"""Faults of the system put into OUT, the cache and what else is written, errno by errno and call by call.

Each gives one message with the place and the remedy of its kind. Existing files are unchanged, and no half-written file has a name
that counts. The same command works once the fault is gone.
"""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import click
import numpy as np
import pytest
from click.testing import CliRunner

from hpa_search.cli import main
from hpa_search.cli.options import CACHE, FOLDER, told
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.finish.stage import finish
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search
from hpa_search.training.job import open_trial
from tests.servers.disk import needs_mounts, small_disk
from tests.servers.refusals import refused

pytestmark = pytest.mark.long
SPACE = """
name: refused
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}}
budget: {trials: 1}
scheduler: {kind: none, max_epochs: 1}
final: {onnx: false, max_members: 1, thresholds: half}
split: {train: 0.6, validation: 0.2, test: 0.2}
"""

REMEDIES = {
    "ENOSPC": "make room",
    "EDQUOT": "larger quota",
    "EACCES": "ls -ld shows them",
    "EPERM": "ls -ld shows them",
    "EROFS": "mount it for writing",
    "ENOLCK": "mount it with locks",
    "EOPNOTSUPP": "mount it with locks",
    "ENAMETOOLONG": "take a shorter one",
    "EMFILE": "ulimit -n",
    "ENFILE": "fs.file-max",
    "EIO": "dmesg",
    "ESTALE": "dmesg",
    "ENOTCONN": "dmesg",
    "EREMOTEIO": "dmesg",
    "EHOSTDOWN": "dmesg",
    "EKEYEXPIRED": "kinit",
    "EFBIG": "ulimit -f",
    "EBUSY": "lsof",
    "ELOOP": "correct the link",
}
"""What mends each; of no other may be spoken."""
NOT_MOVED = {"EMFILE", "ENFILE"}
"""No other place would help."""

CACHED, OUT = "--cache or HPA_SEARCH_CACHE", "--out"


def prepared(data, out, cache, text=SPACE):
    """Make ``out`` ready for the search, and return its job."""
    dataset = read_dataset(data)
    images = pack(dataset.train_folder, dataset.ids, cache)
    return prepare(out, parse_search(text, "s.yaml"), text, Inputs(dataset, images), cache, str)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, a cache, a finished search and predictions made elsewhere; trained in this process."""
    folder = tmp_path_factory.mktemp("world")
    make_phantom(folder / "data", images=120, size=32, seed=0, lift=4, test_images=4, workers=1)
    job = prepared(folder / "data", folder / "out", folder / "cache")
    search = parse_search(SPACE, "s.yaml")
    agenda = Agenda(search, Ledger.create(folder / "out", search.name), slots=1, spent_seconds=lambda: 0.0)
    while (leg := agenda.next()) is not None:
        trial = open_trial(job, leg.number, leg.parameters)
        while not agenda.report(leg.number, EpochReport.of(trial.run_epoch())):
            pass
        trial.close()
    finish(folder / "out", folder / "cache", say=str)
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 28)) < 0.2) | np.eye(28, dtype=bool)[rng.integers(0, 28, 60)]
    good = np.clip(labels * 0.6 + rng.random((60, 28)) * 0.4, 0.01, 0.99).astype(np.float32)
    np.savez(folder / "p.npz", ids=np.array([f"i{row}" for row in range(60)]), labels=labels.astype(np.uint8), good=good)
    return folder


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of the world without the dataset, which is only read; leases run out soon."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)
    for name in ("out", "cache"):
        shutil.copytree(world / name, tmp_path / name)
    return tmp_path


@click.command("prepare")
@click.argument("data", type=FOLDER)
@click.option("--out", type=FOLDER)
@CACHE
@told
def _prepare(data, out, cache):
    prepared(data, out, cache)


@click.command("ledger")
@click.option("--out", type=FOLDER)
@told
def _ledger(out):
    Ledger.create(out, "toy").note("a", 1)


COMMANDS = {"prepare": _prepare, "ledger": _ledger}


def arguments(command, world, here):
    """Return the words of a command line, by its name here."""
    data, out, cache = world / "data", here / "out", ("--cache", here / "cache")
    return {
        "check": ("data", "check", data, "--sheet", here / "sheet.png", "--cache", here / "new"),
        "check again": ("data", "check", data, "--sheet", here / "sheet.png", *cache),
        "phantom": ("data", "phantom", here / "new", "--images", 3, "--size", 32),
        "predict": ("predict", out / "bundle", data, "--out", here / "s.csv", "--probabilities", here / "p.npz", *cache),
        "predict anew": ("predict", out / "bundle", data, "--out", here / "s.csv", "--cache", here / "new"),
        "ensemble": ("ensemble", "--predictions", world / "p.npz", "--out", here / "ens", "--thresholds", "half"),
        "finish": ("finish", out, *cache),
        "status": ("status", out),
        "pause": ("pause", out),
        "stop": ("stop", out),
        "extend": ("extend", out, "--trials", 3),
        "prepare": (data, "--out", here / "search", *cache),
        "ledger": ("--out", here / "ledger"),
    }[command]


def invoke(command, world, here):
    (here / "ledger").mkdir(exist_ok=True)
    words = list(map(str, arguments(command, world, here)))
    result = CliRunner().invoke(COMMANDS.get(command, main), words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def contents(folder):
    """Return all files but the locks, which are empty and stay."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


WHOLE = re.compile(
    r"(cache|new)/[0-9a-f]{32}(-\d+)?/(pixels.npy|pack.json)|\.s\.csv\.parts/\d{5}-\w+\.npy|p\.npz|ens/\w+\.(json|csv|md)|search/.*"
)
"""What may have come: images that were decoded before the fault, parts that are resumed, and whole files of a new folder."""


def check_unchanged(before, after):
    for name, content in before.items():
        assert after[name].startswith(content) if name.endswith(".journal") else after[name] == content, name
    new = [name for name in after.keys() - before.keys() if not WHOLE.fullmatch(name)]
    assert not [name for name in new if not name.endswith(".journal")], new
    packs = {name.rpartition("/")[0] for name in after if name.endswith("pixels.npy")}
    assert {f"{folder}/pack.json" for folder in packs} <= after.keys(), "a pack is whole"


def check_told(code, said, name, option):
    assert code == 2, said
    assert said.count("Error: ") == 1 and "Traceback" not in said
    assert REMEDIES[name] in said, said
    others = {words for words in REMEDIES.values() if words in said} - {REMEDIES[name]}
    assert not others and "damaged" not in said and "delete it" not in said, said
    assert os.strerror(getattr(errno, name)) in said or "are free" in said
    assert name in NOT_MOVED or f"with {option}" in said or (option == OUT and "with OUT" in said), said


@dataclass(frozen=True)
class Case:
    """A command, and which of its calls is refused, on which paths; ``option`` moves these."""

    command: str
    call: str
    error: str
    pattern: str
    option: str = OUT
    nth: int = 1

    def __str__(self):
        return f"{self.command}-{self.call}-{self.error}-{self.nth}"


CASES = [
    # The cache: folders, locks, pixels, and what is there already.
    Case("check", "mkdir", "ENOSPC", "/new$", CACHED),
    Case("check", "mkdir", "EACCES", "/new$", CACHED),
    Case("check", "mkdir", "EROFS", "/new$", CACHED),
    Case("check", "mkdir", "EDQUOT", "building$", CACHED),
    Case("check", "mkdir", "ENAMETOOLONG", "building$", CACHED),
    Case("check", "lock", "ENOLCK", "/new/.*lock$", CACHED),
    Case("check", "lock", "EOPNOTSUPP", "/new/.*lock$", CACHED),
    Case("check", "lock", "EIO", "/new/.*lock$", CACHED),
    Case("check", "open", "EMFILE", "/new/.*lock$", CACHED),
    Case("check", "open", "EACCES", "/new/.*lock$", CACHED),
    Case("check", "open", "ENOSPC", "pixels.npy$", CACHED),
    Case("check", "write", "ENOSPC", "building/pixels.npy$", CACHED, nth=40),
    Case("check", "write", "EDQUOT", "building/pixels.npy$", CACHED, nth=2),
    Case("check", "write", "EIO", "building/pixels.npy$", CACHED, nth=100),
    Case("check", "write", "EFBIG", "building/pixels.npy$", CACHED, nth=2),
    Case("check", "fsync", "EIO", "pixels.npy$", CACHED),
    Case("check", "write", "ENOSPC", "pack.json$", CACHED),
    Case("check", "open", "ENFILE", "pack.json$", CACHED),
    Case("check", "rename", "ESTALE", "/new/", CACHED),
    Case("check", "rename", "EACCES", "/new/", CACHED, nth=2),
    Case("check again", "read", "EACCES", "pack.json$", CACHED),
    Case("check again", "read", "EMFILE", "pixels.npy$", CACHED),
    Case("check again", "read", "ESTALE", "pack.json$", CACHED, nth=2),
    Case("check again", "read", "EKEYEXPIRED", "pixels.npy$", CACHED),
    # A file of the user's.
    Case("check again", "open", "EACCES", "sheet.png", "--sheet"),
    Case("check again", "open", "EROFS", "sheet.png", "--sheet"),
    Case("check again", "open", "ENAMETOOLONG", "sheet.png", "--sheet"),
    Case("check again", "write", "ENOSPC", "sheet.png", "--sheet"),
    Case("check again", "fsync", "EIO", "sheet.png", "--sheet"),
    Case("check again", "rename", "EBUSY", "sheet.png", "--sheet"),
    Case("check again", "rename", "ELOOP", "sheet.png", "--sheet"),
    # A phantom.
    Case("phantom", "mkdir", "EACCES", "/new$", "FOLDER"),
    Case("phantom", "mkdir", "ENOSPC", "/new/test$", "FOLDER"),
    Case("phantom", "open", "EMFILE", "_green.png$", "FOLDER", nth=2),
    Case("phantom", "write", "EDQUOT", "_red.png$", "FOLDER", nth=2),
    Case("phantom", "write", "EIO", "_blue.png$", "FOLDER"),
    Case("phantom", "fsync", "EIO", "train.csv", "FOLDER"),
    Case("phantom", "rename", "EROFS", "test_labels.csv$", "FOLDER"),
    # Predictions, their parts and their cache.
    Case("predict", "open", "EROFS", "HERE$"),
    Case("predict", "mkdir", "ENOSPC", r"s\.csv\.parts$"),
    Case("predict", "open", "EACCES", r"s\.csv\.parts/"),
    Case("predict", "fsync", "EDQUOT", r"s\.csv\.parts/"),
    Case("predict", "rename", "ESTALE", r"s\.csv\.parts/"),
    Case("predict", "open", "ENOSPC", r"\.s\.csv\.\d"),
    Case("predict", "write", "EFBIG", r"\.s\.csv\.\d"),
    Case("predict", "fsync", "EIO", r"\.s\.csv\.\d"),
    Case("predict", "rename", "EDQUOT", r"/s\.csv$"),
    Case("predict", "rename", "ENOTCONN", r"/p\.npz$", "--probabilities"),
    Case("predict", "open", "EPERM", r"\.p\.npz\.\d", "--probabilities"),
    Case("predict anew", "lock", "ENOLCK", "/new/", CACHED),
    Case("predict anew", "write", "ENOSPC", "building/pixels.npy$", CACHED, nth=3),
    # An ensemble of predictions made elsewhere.
    Case("ensemble", "mkdir", "ENOSPC", "/ens$"),
    Case("ensemble", "open", "EACCES", "ensemble.json"),
    Case("ensemble", "write", "EDQUOT", "members.csv"),
    Case("ensemble", "fsync", "EIO", "SUMMARY.md"),
    Case("ensemble", "rename", "ESTALE", "estimate.json$"),
    # The final stage of a search that has a bundle.
    Case("finish", "open", "EACCES", "finish.lock$"),
    Case("finish", "open", "EROFS", "finish.lock$"),
    Case("finish", "mkdir", "ENOSPC", r"/\.bundle$"),
    Case("finish", "open", "ENOSPC", r"/\.bundle/member"),
    Case("finish", "fsync", "EDQUOT", r"/\.bundle/\.bundle.json"),
    Case("finish", "write", "EIO", r"/\.bundle/\.MODEL_CARD"),
    Case("finish", "rename", "EBUSY", r"/bundle$"),
    Case("finish", "rename", "EACCES", r"/\.bundle$"),
    Case("finish", "open", "ENOSPC", r"\.result.json"),
    Case("finish", "rename", "EREMOTEIO", r"/result.json$"),
    Case("finish", "fsync", "EIO", r"\.submission.csv"),
    Case("finish", "rename", "ESTALE", r"/test_predictions.npz$"),
    Case("finish", "read", "EMFILE", "logits.npz$"),
    Case("finish", "read", "ESTALE", "metrics.csv$"),
    Case("finish", "read", "EACCES", "study.journal$"),
    Case("finish", "read", "EHOSTDOWN", "provenance.json$"),
    # Asking of it, and commanding it.
    Case("status", "read", "EACCES", "study.journal$"),
    Case("status", "read", "EIO", "study.journal$"),
    Case("status", "read", "ESTALE", "study.journal$"),
    Case("status", "read", "EMFILE", "study.journal$"),
    Case("pause", "lock", "ENOLCK", "journal.lock$"),
    Case("pause", "lock", "EOPNOTSUPP", "journal.lock$"),
    Case("pause", "lock", "ENOLCK", "journal.lock$", nth=2),
    Case("pause", "open", "EROFS", "journal.lock$"),
    Case("pause", "open", "EACCES", "study.journal$"),
    Case("pause", "open", "EROFS", "study.journal$"),
    Case("pause", "write", "ENOSPC", "study.journal$"),
    Case("pause", "write", "EDQUOT", "study.journal$", nth=2),
    Case("stop", "fsync", "EIO", "study.journal$"),
    Case("stop", "fsync", "ENOSPC", "study.journal$", nth=2),
    Case("extend", "mkdir", "EACCES", "/commands$"),
    Case("extend", "mkdir", "EROFS", "/commands$"),
    Case("extend", "open", "ENOSPC", "/commands/"),
    Case("extend", "fsync", "EIO", "/commands/"),
    Case("extend", "rename", "EDQUOT", "/commands/"),
    Case("extend", "read", "EKEYEXPIRED", "provenance.json$"),
    # Getting OUT and its ledger ready.
    Case("prepare", "mkdir", "ENOSPC", "/search$"),
    Case("prepare", "open", "EROFS", "search.yaml"),
    Case("prepare", "write", "EDQUOT", "split.csv"),
    Case("prepare", "fsync", "EIO", "provenance.json"),
    Case("prepare", "rename", "ESTALE", "provenance.json$"),
    Case("prepare", "list", "EACCES", "/search$"),
    Case("ledger", "open", "EACCES", "study.journal$"),
    Case("ledger", "lock", "ENOLCK", "journal.lock$"),
    Case("ledger", "write", "ENOSPC", "study.journal$"),
    Case("ledger", "fsync", "EIO", "study.journal$", nth=2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_refusal_is_named_by_its_kind_and_harms_nothing(world, here, case):
    if case.command == "prepare" and case.call == "list":
        (here / "search").mkdir()
    before = contents(here)
    with refused(case.call, case.error, case.pattern.replace("HERE", re.escape(str(here))), case.nth) as refusal:
        code, said = invoke(case.command, world, here)
    assert refusal.met >= case.nth, "it was asked for"
    check_told(code, said, case.error, case.option)
    check_unchanged(before, contents(here))
    code, said = invoke(case.command, world, here)
    assert code == 0, said
    assert not [name for name in contents(here) if re.search(r"/\.[^/]*\.\d+\.[0-9a-f]{8}$|building|\.bundle/", name)]


def shown_by(arguments, *, user=None, limits="", folder=None):
    """Run a command in a process of its own, as ``user`` (by a user namespace), after the shell's ``limits``; return its answer."""
    words = " ".join(map(shlex.quote, map(str, (sys.executable, "-m", "hpa_search.cli", *arguments))))
    command = ["sh", "-c", f"{limits} exec {words}"]
    if user is not None:
        command = ["unshare", "-U", f"--map-user={user}", f"--map-group={user}", *command]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return ended.returncode, ended.stdout + ended.stderr


@contextmanager
def _full(folder):
    with small_disk(folder, megabytes=1) as disk:
        (disk / "filler").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
        yield disk


@contextmanager
def _read_only(folder):
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


@needs_mounts
@pytest.mark.parametrize("what", ["cache", "sheet", "phantom", "out", "search"])
def test_a_disk_that_is_full(world, here, what):
    with _full(here / "disk") as disk:
        command, option = {
            "cache": (("data", "check", world / "data", "--sheet", here / "s.png", "--cache", disk / "c"), CACHED),
            "sheet": (("data", "check", world / "data", "--sheet", disk / "s.png", "--cache", here / "cache"), "--sheet"),
            "phantom": (("data", "phantom", disk / "p", "--images", 3, "--size", 32), "FOLDER"),
            "out": (("predict", here / "out/bundle", world / "data", "--out", disk / "s.csv", "--cache", here / "cache"), OUT),
            "search": ((world / "data", "--out", disk / "search", "--cache", here / "cache"), OUT),
        }[what]
        run = _prepare if what == "search" else main
        result = CliRunner().invoke(run, list(map(str, command)))
        check_told(result.exit_code, result.output, "ENOSPC", option)
        assert [path for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock"] == [disk / "filler"]
        (disk / "filler").unlink()
        assert CliRunner().invoke(run, list(map(str, command))).exit_code == 0


@needs_mounts
def test_a_disk_that_can_hold_no_more_files_though_it_has_room(world, here):
    (here / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m,nr_inodes=3", "tmpfs", here / "disk"], check=True)
    try:
        (here / "disk" / "a").touch()
        (here / "disk" / "b").touch()
        command = ["data", "check", world / "data", "--sheet", here / "s.png", "--cache", here / "disk" / "c"]
        result = CliRunner().invoke(main, list(map(str, command)))
        assert result.exit_code == 2 and "can hold no more files" in result.output and "df -i" in result.output
        assert "make room" not in result.output and f"with {CACHED}" in result.output
    finally:
        subprocess.run(["umount", "--lazy", here / "disk"], check=True)


@needs_mounts
def test_a_disk_that_is_read_only(world, here):
    """What only asks works there, and what writes says what it is."""
    with small_disk(here / "disk", megabytes=20) as disk:
        shutil.copytree(here / "out", disk / "out")
        before = contents(disk)
        with _read_only(disk):
            assert shown_by(("status", disk / "out"))[0] == 0
            for arguments, option in {
                ("pause", disk / "out"): OUT,
                ("extend", disk / "out", "--trials", 1): OUT,
                ("finish", disk / "out", "--cache", here / "cache"): OUT,
                ("data", "check", world / "data", "--sheet", here / "s.png", "--cache", disk / "c"): CACHED,
                ("data", "check", world / "data", "--sheet", disk / "s.png", "--cache", here / "cache"): "--sheet",
                ("data", "phantom", disk / "p", "--images", 3, "--size", 32): "FOLDER",
            }.items():
                check_told(*shown_by(arguments), "EROFS", option)
        assert contents(disk) == before
        assert shown_by(("pause", disk / "out"))[0] == 0


@needs_mounts
def test_a_user_who_may_not(world, here):
    """As one of the group whose search lies in a folder of another's; the message says as which user."""
    for name in ("closed", "seen"):
        (here / name).mkdir()
    shutil.copytree(here / "out", here / "seen" / "out")
    before = contents(here / "seen")
    inside = list((here / "seen").rglob("*"))
    for path in (*inside, here / "seen", here / "closed"):
        path.chmod((0o555 if path.is_dir() else 0o444) if path.is_relative_to(here / "seen") else 0o000)
    try:
        for arguments, option in {
            ("pause", here / "seen" / "out"): OUT,
            ("extend", here / "seen" / "out", "--trials", 1): OUT,
            ("finish", here / "seen" / "out", "--cache", here / "cache"): OUT,
            ("status", here / "closed" / "out"): OUT,
            ("data", "check", world / "data", "--sheet", here / "closed" / "s.png", "--cache", here / "cache"): "--sheet",
            ("data", "check", world / "data", "--sheet", here / "s.png", "--cache", here / "closed" / "c"): CACHED,
            ("data", "phantom", here / "closed" / "p", "--images", 3, "--size", 32): "FOLDER",
        }.items():
            code, said = shown_by(arguments, user=4321)
            check_told(code, said, "EACCES", option)
            assert "user id 4321 has no permission" in said
        assert shown_by(("status", here / "seen" / "out"), user=4321)[0] == 0
    finally:
        for path in (here / "seen", here / "closed", *inside):
            path.chmod(0o755)
    assert contents(here / "seen") == before and not list((here / "closed").iterdir())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file/below", "file is a file, where a folder is expected|a file is there already"),
        ("n" * 300, "the name is too long"),
        ("loop/below", "symbolic links lead in a circle"),
        ("dead/below", "what the link .*dead names, .*away, is not there"),
    ],
)
def test_paths_that_cannot_be(world, here, place, words):
    (here / "file").write_text("mine")
    (here / "loop").symlink_to("loop")
    (here / "dead").symlink_to(here / "away")
    before = contents(here)
    data, cache = world / "data", here / "cache"
    for arguments in (
        ("data", "check", data, "--sheet", here / "s.png", "--cache", here / place),
        ("data", "check", data, "--sheet", here / place, "--cache", cache),
        ("data", "phantom", here / place, "--images", 3, "--size", 32),
        ("predict", here / "out/bundle", data, "--out", here / place, "--cache", cache),
        ("predict", here / "out/bundle", data, "--out", here / "s.csv", "--cache", here / place),
    ):
        result = CliRunner().invoke(main, list(map(str, arguments)))
        assert result.exit_code == 2 and result.output.count("Error: ") == 1, result.output
        assert re.search(words, result.output), result.output
    check_unchanged(before, contents(here))


def test_limits_of_a_process(world, here):
    """Of the size of its files, as a batch system sets it, and of how many it may have open."""
    check = ("data", "check", world / "data", "--sheet", here / "s.png", "--cache", here / "new")
    before = contents(here)
    check_told(*shown_by(check, limits="ulimit -f 64;"), "EFBIG", CACHED)
    check_unchanged(before, contents(here))
    assert shown_by(check)[0] == 0
