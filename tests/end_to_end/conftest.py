"""Real searches in a process of their own, on a real local Ray, one after the other."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpa_search.errors import UserError
from hpa_search.ledger.ledger import Ledger, TrialRecord

HERE = Path(__file__).parent


class SearchProcess:
    """A script of this folder that runs a search in ``out``, in its own process group."""

    def __init__(self, out: Path, log: Path, script: str, *arguments: object) -> None:
        self.out = out
        self._log = log.open("ab")
        paths = filter(None, (str(HERE), os.environ.get("PYTHONPATH")))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        self._before = set(ray_processes())
        self.process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log, start_new_session=True)

    def wait(self, timeout: float = 240) -> int:
        return self.process.wait(timeout)

    def wait_until(self, condition: Callable[[list[TrialRecord]], bool], timeout: float = 120) -> list[TrialRecord]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            # The journal is there a moment before the study is in it.
            with suppress(UserError):
                if condition(trials := Ledger.open(self.out).trials()):
                    return trials
            assert self.process.poll() is None, f"the search ended with {self.process.returncode}"
            time.sleep(0.05)
        raise AssertionError("it did not come to that in time")

    def descendants(self, title: str) -> list[psutil.Process]:
        """Return the search's processes whose title holds ``title``, such as ray::RayTrainWorker."""
        return [process for process in psutil.Process(self.process.pid).children(recursive=True) if title in _title(process)]

    def left_behind(self, patience: float = 10) -> list[str]:
        """Return the titles of Ray's processes that were not there before and do not go away."""
        left = [process for process in ray_processes() if process not in self._before]
        psutil.wait_procs(left, timeout=patience)
        return [_title(process) for process in left if process.is_running()]

    def kill_all(self) -> None:
        """SIGKILL the driver, and then what it leaves behind: Ray's own processes see its end and go as well."""
        left = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for process in left:
            if process.is_running():
                process.kill()
        psutil.wait_procs(left, timeout=10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill_all()
        self._log.close()


def ray_processes() -> list[psutil.Process]:
    """Return every process of any Ray on this machine."""
    names = ("ray::", "/ray/")
    return [process for process in psutil.process_iter() if any(name in _title(process) for name in names)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def start_search(tmp_path):
    started: list[SearchProcess] = []

    def start(**settings: Any) -> SearchProcess:
        """Start a search of sleeping trials."""
        out = tmp_path / "out"
        started.append(SearchProcess(out, tmp_path / "log", "sleeping_search.py", out, json.dumps(settings)))
        return started[-1]

    yield start
    for search in started:
        search.close()
    print((tmp_path / "log").read_text()[-6000:])


def epochs_begun(out: Path, number: int) -> Counter[int]:
    """Return how often each epoch of a trial was begun."""
    return Counter(map(int, (out / "trials" / f"{number:04d}" / "begun").read_text().split()))


def check_accounts(out: Path, trials: int) -> list[TrialRecord]:
    """Every trial is there once and has ended, and its epochs run from 1 without holes."""
    facts = Ledger.open(out).trials()
    assert [trial.number for trial in facts] == list(range(trials))
    for trial in facts:
        assert trial.end is not None
        assert sorted(trial.reports) == list(range(1, trial.epochs + 1))
    return facts
