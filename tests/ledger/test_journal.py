import builtins
import errno
import json
import os
import subprocess
import sys

import pytest
from optuna.distributions import FloatDistribution

from hpa_search.errors import UserError
from hpa_search.ledger.journal import JOURNAL, cut_torn_line
from hpa_search.ledger.ledger import Ledger, LedgerError
from tests.servers.disk import needs_mounts, small_disk

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path, "toy")


def add(ledger):
    number = len(ledger.trials())
    ledger.add(number, {"learning_rate": 0.01}, SPACE, target=1)
    return number


@pytest.mark.parametrize("torn", [b'{"op_code": 4, "wor', b"\x00\x00\x00"])
def test_a_torn_last_line_is_cut_and_the_journal_lives_on(ledger, tmp_path, torn):
    add(ledger)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(torn)
    assert cut_torn_line(tmp_path / JOURNAL) == len(torn)
    again = Ledger.create(tmp_path, "toy")
    add(again)
    assert [facts.number for facts in Ledger.open(tmp_path).trials()] == [0, 1]


def test_every_cut_of_a_journal_leaves_a_prefix_of_the_facts(ledger, tmp_path):
    for _ in range(3):
        ledger.report(add(ledger), 1, 0.5)
    content = (tmp_path / JOURNAL).read_bytes()
    for index, at in enumerate(range(content.index(b"\n") + 1, len(content), 97)):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(content[:at])
        cut_torn_line(folder / JOURNAL)
        shorter = Ledger.create(folder, "toy")
        numbers = [facts.number for facts in shorter.trials()]
        assert numbers == list(range(len(numbers)))
        add(shorter)


def test_an_append_after_a_torn_line_of_the_same_driver_does_not_join_it(ledger, tmp_path):
    add(ledger)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    add(ledger)
    for line in (tmp_path / JOURNAL).read_text().splitlines():
        json.loads(line)
    assert len(Ledger.open(tmp_path).trials()) == 2


@needs_mounts
def test_a_full_disk_tears_no_line_and_the_ledger_goes_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        ledger = Ledger.create(disk, "toy")
        add(ledger)
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space") as fault, filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert fault.value.errno == errno.ENOSPC
        kept = 0
        with pytest.raises(LedgerError, match="No space left"):
            for epoch in range(1, 1000):
                ledger.report(0, epoch, 0.5)
                kept = epoch
        filler.unlink()
        ledger.report(0, kept + 1, 0.5)
        add(ledger)
        (first, _) = Ledger.open(disk).trials()
        assert sorted(first.reports) == list(range(1, kept + 2))


LOCK_FAULT = """
import errno, fcntl, os, sys
from pathlib import Path
from hpa_search.errors import UserError
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger

def refuse(descriptor, operation):
    raise OSError(getattr(errno, sys.argv[1]), os.strerror(getattr(errno, sys.argv[1])))

fcntl.flock = refuse
out = Path(sys.argv[2])
for act in (lambda: Ledger.create(out, "toy").note("a", 1), lambda: lease.take(out, "toy").release()):
    try:
        act()
        print("works")
    except UserError as error:
        print(error)
"""


@pytest.mark.long
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_no_damaged_ledger(tmp_path, begun, name):
    """Where there is no flock at all a marker does its work; where locks are refused, that is told."""
    if begun:
        Ledger.create(tmp_path, "toy")
    before = (tmp_path / JOURNAL).read_bytes() if begun else b""
    ended = subprocess.run([sys.executable, "-c", LOCK_FAULT, name, tmp_path], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    said = ended.stdout.splitlines()
    if name == "ENOSYS":
        assert said == ["works", "works"] and Ledger.open(tmp_path).noted()["a"] == 1
        return
    assert len(said) == 2 and "damaged" not in ended.stdout
    for line in said:
        assert "no lock service" in line and f"{tmp_path / JOURNAL}.lock" in line and "mount it with locks" in line
        assert "choose a place on another one with --out" in line
    assert (tmp_path / JOURNAL).read_bytes() == before
    ledger = Ledger.create(tmp_path, "toy")
    ledger.note("a", 1)
    assert ledger.noted()["a"] == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_ledger_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch, number):
    Ledger.create(tmp_path, "toy")
    opened = builtins.open

    def refuse(path, *rest, **more):
        if str(path) == str(tmp_path / JOURNAL):
            raise OSError(number, os.strerror(number), path)
        return opened(path, *rest, **more)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match=f"{JOURNAL}: the ledger cannot be opened: ") as told:
        Ledger.open(tmp_path)
    assert "damaged" not in str(told.value)
