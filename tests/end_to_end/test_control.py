"""Pause, stop, resume and extend, of a running search and after its driver was killed; and a disk that is full."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from hpa_search.cli import main
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import read_status
from hpa_search.phantom.dataset import make_phantom
from tests.end_to_end.conftest import check_accounts, ray_processes
from tests.servers.disk import needs_mounts, small_disk

pytestmark = pytest.mark.ray

SPACE = """
name: controlled
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}}
budget: {trials: 5}
scheduler: {kind: promotion, min_epochs: 2, max_epochs: 54, eta: 3}
final: {onnx: false, members: 2}
resources: {slots: 1, cpus: 1, gpus: 0}
"""


class Searched:
    """A search that commands of the real command line start, and ask for something."""

    def __init__(self, folder):
        self.folder, self.out, self.drivers = folder, folder / "out", []
        (folder / "toy.yaml").write_text(SPACE)
        make_phantom(folder / "data", images=400, size=32, seed=1, test_images=2, workers=1)
        self.before = set(ray_processes())

    def start(self, *arguments):
        command = [sys.executable, "-m", "hpa_search.cli", *map(str, arguments), "--cache", str(self.folder / "cache")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.folder / "log").open("ab") as log:
            self.drivers.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True))
        return self.drivers[-1]

    def ask(self, *arguments, code=0):
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.output

    def epochs(self):
        return (
            sum(len(trial["reports"]) for trial in read_status(self.out)["trials"])
            if (self.out / "study.journal").is_file()
            else 0
        )

    def wait_for_epochs(self, more):
        wanted, deadline = self.epochs() + more, time.monotonic() + 180
        while self.epochs() < wanted:
            assert self.drivers[-1].poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def kill(self):
        left = psutil.Process(self.drivers[-1].pid).children(recursive=True)
        self.drivers[-1].send_signal(signal.SIGKILL)
        self.drivers[-1].wait()
        for process in left:
            if process.is_running():
                process.kill()
        psutil.wait_procs(left, timeout=10)

    def left_behind(self):
        left = [process for process in ray_processes() if process not in self.before]
        return psutil.wait_procs(left, timeout=15)[1]


@pytest.fixture
def searched(tmp_path):
    search = Searched(tmp_path)
    yield search
    for driver in search.drivers:
        if driver.poll() is None:
            search.kill()
    print((tmp_path / "log").read_text()[-6000:])


def test_commands_on_a_running_search_and_after_its_driver_was_killed(searched):
    out = searched.out
    driver = searched.start("run", searched.folder / "toy.yaml", "--data", searched.folder / "data", "--out", out)
    searched.wait_for_epochs(1)
    assert "ends after the running epochs" in searched.ask("pause", out, "--wait")
    assert driver.wait(60) == 0
    assert read_status(out)["state"] == "paused"
    assert not searched.left_behind()
    at_pause = {trial.number: trial.reports for trial in Ledger.open(out).trials()}
    assert "Extended by 2 trials, from the next resume on" in searched.ask("extend", out, "--trials", 2)

    driver = searched.start("resume", out)
    searched.wait_for_epochs(2)
    assert "is extended by 1 trials" in searched.ask("extend", out, "--trials", 1)
    assert "ends now" in searched.ask("stop", out, "--wait")
    assert driver.wait(60) == 0
    assert read_status(out)["state"] == "stopped"
    assert not searched.left_behind()

    searched.start("resume", out)
    searched.wait_for_epochs(1)
    searched.kill()
    assert read_status(out)["state"] == "interrupted"
    assert "No driver is at work" in searched.ask("pause", out)
    assert read_status(out)["state"] == "paused"
    assert "No driver is at work" in searched.ask("stop", out)
    assert read_status(out)["state"] == "stopped"
    assert "is not limited by epochs" in searched.ask("extend", out, "--epochs", 3, code=2)
    searched.ask("extend", out, "--trials", 1)

    assert searched.start("resume", out).wait(240) == 0
    trials = check_accounts(out, 5 + 2 + 1 + 1)
    for number, reports in at_pause.items():
        assert reports.items() <= trials[number].reports.items()
    assert read_status(out)["state"] == "finished"
    assert (out / "bundle").is_dir()
    assert "is finished; there is nothing to pause" in searched.ask("pause", out)
    assert not searched.left_behind()
    # An extended search that was finished resumes, and finishes again.
    searched.ask("extend", out, "--trials", 1)
    assert searched.start("resume", out).wait(240) == 0
    check_accounts(out, 10)


@needs_mounts
def test_a_full_disk_stops_a_search_with_one_message_and_it_goes_on_when_there_is_room(start_search, tmp_path):
    with small_disk(tmp_path / "out", megabytes=3) as disk:
        search = start_search(trials=9, seconds=0.5)
        search.wait_until(lambda trials: sum(trial.epochs for trial in trials) >= 3)
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
        assert search.wait(120) == 2
        log = (tmp_path / "log").read_text()
        assert log.count("Error: ") == 1
        assert "No space left on device" in log and "Traceback" not in log
        assert not search.left_behind()
        kept = {trial.number: trial.reports for trial in Ledger.open(disk).trials()}
        assert sum(map(len, kept.values())) >= 3
        assert not any(trial.end == "failed" for trial in Ledger.open(disk).trials())
        filler.unlink()
        again = start_search(trials=9, seconds=0.05)
        assert again.wait() == 0
        trials = check_accounts(disk, 9)
        for number, reports in kept.items():
            assert reports.items() <= trials[number].reports.items()
        assert all(trial.end in ("complete", "pruned") for trial in trials)


def test_a_stop_does_not_wait_for_a_long_epoch(start_search):
    """Ray gives a job that is stopped a minute."""
    search = start_search(trials=4, seconds=600)
    deadline = time.monotonic() + 200
    while len(list(search.out.glob("trials/*/begun"))) < 2:
        assert time.monotonic() < deadline and search.process.poll() is None
        time.sleep(0.2)
    search.process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert search.wait(120) == 3
    assert time.monotonic() - asked < 60
    assert not search.left_behind()
    assert [trial.epochs for trial in Ledger.open(search.out).trials()] == [0, 0]
