"""The end of a local Ray's processes, with processes of the tests' own that look like Ray's."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from hpa_search.engine.cluster_up import end_processes

STARTS_ANOTHER = """
import subprocess, sys, time
while True:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "/ray/agent"])
    time.sleep(0.02)
"""
SLEEPS = "import time; time.sleep(60)"


@pytest.fixture
def start():
    """Start a Python program in a folder; end it after the test."""
    started = []

    def start_in(folder, program, *words):
        folder.mkdir(parents=True, exist_ok=True)
        started.append(subprocess.Popen([sys.executable, "-c", program, *words], cwd=folder))
        return started[-1]

    yield start_in
    for process in started:
        process.kill()
        process.wait()


def living_in(folder):
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def test_processes_that_start_meanwhile_and_orphans_are_killed_too(tmp_path, start):
    start(tmp_path / "workers", STARTS_ANOTHER, "/ray/raylet")
    parent = start(tmp_path / "session", STARTS_ANOTHER, "/ray/raylet")
    time.sleep(0.5)
    parent.kill()  # its children live on below the init process
    assert len(living_in(tmp_path)) > 10
    end_processes(tmp_path)
    assert living_in(tmp_path) == []


def test_other_processes_live_on(tmp_path, start):
    """Another Ray's, and a shell in which somebody reads this Ray's logs."""
    scratch = tmp_path / "scratch"
    others = [start(tmp_path / "scratch2", SLEEPS, "/ray/raylet"), start(scratch, SLEEPS), start(tmp_path, SLEEPS, "ray::x")]
    start(scratch, SLEEPS, "ray::RuntimeEnvAgent")
    end_processes(scratch)
    assert {process.pid for process in living_in(tmp_path)} == {process.pid for process in others}
