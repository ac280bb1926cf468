"""The shell scripts: their syntax, shellcheck, and their effect on Ray and on running searches."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster_files.places import CLUSTER, SBATCH, SCRIPTS

STAND_INS = Path(__file__).parent / "stand_ins"
TOKEN = "0123456789abcdef" * 4
DRIVER = """
import pathlib, signal, sys, time
def stop(number, frame):
    pathlib.Path(sys.argv[-1]).write_text("stopped")
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
every_script = pytest.mark.parametrize(
    "script", [*SCRIPTS, SBATCH, *sorted(STAND_INS.glob("*/*"))], ids=lambda script: f"{script.parent.name}/{script.name}"
)


@every_script
def test_it_can_be_read_and_run(script):
    shell = script.read_text().splitlines()[0].split("/")[-1].split()[-1]
    assert shell in ("sh", "bash") and os.access(script, os.X_OK)
    subprocess.run([shell, "-n", script], check=True, timeout=10)


@every_script
def test_shellcheck_finds_nothing(script):
    found = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed")
    said = subprocess.run([found, script], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout


@pytest.fixture
def run_plain(tmp_path):
    """Run a script of plain/ in a home of its own, with a `ray` that prints its arguments and variables."""
    ray = tmp_path / "bin" / "ray"
    ray.parent.mkdir()
    ray.write_text('#!/bin/sh\necho "ray $*"\nenv | grep "^RAY_"\n')
    ray.chmod(0o755)

    def run(script, *arguments, **environment):
        known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        paths = f"{ray.parent}{os.pathsep}{known['PATH']}"
        given = {**known, "PATH": paths, "HOME": str(tmp_path), **environment}
        command = [CLUSTER / "plain" / script, *arguments]
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=20, check=False)

    return run


def test_a_head_has_the_token_and_lets_a_stopped_job_end(run_plain):
    ran = run_plain("start-head.sh", "--num-cpus=0")
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0
    assert lines[0] == "ray start --head --port=6379 --dashboard-host=0.0.0.0 --num-cpus=0"
    assert {"RAY_AUTH_MODE=token", "RAY_JOB_STOP_SIGNAL=SIGINT", "RAY_JOB_STOP_WAIT_TIME_S=60"} <= set(lines)


@pytest.mark.parametrize(("head", "address"), [("head1", "head1:6379"), ("head1:7000", "head1:7000")])
def test_a_worker_joins_its_head(run_plain, head, address):
    ran = run_plain("start-worker.sh", head, "--num-gpus=2", RAY_AUTH_TOKEN=TOKEN)
    assert ran.stdout.splitlines()[0] == f"ray start --address={address} --num-gpus=2"
    assert "RAY_AUTH_MODE=token" in ran.stdout


def test_a_worker_without_a_token_is_told_what_to_do(run_plain, tmp_path):
    ran = run_plain("start-worker.sh", "head1")
    assert ran.returncode == 2 and "copy ~/.ray/auth_token from the head" in ran.stderr and not ran.stdout
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    assert run_plain("start-worker.sh", "head1").returncode == 0


def test_a_worker_without_a_head_is_told_its_use(run_plain):
    ran = run_plain("start-worker.sh")
    assert ran.returncode == 2 and ran.stderr.startswith("usage:")


@pytest.fixture
def drivers(tmp_path):
    """Start stand-ins for drivers: Python processes whose command lines look as those of `hpa-search run` and of submit's jobs."""
    program = tmp_path / "hpa-search"
    program.write_text(DRIVER)
    (tmp_path / "hpa_search").mkdir()
    (tmp_path / "hpa_search" / "cli.py").write_text(DRIVER)
    started = []

    def start(*words):
        command = [sys.executable, *words]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
        )
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def only_ours(tmp_path, *pids):
    """Return a PATH with a pgrep that sees these processes alone: others' searches on this machine are none of the test's."""
    pgrep = tmp_path / "bin" / "pgrep"
    pgrep.parent.mkdir()
    alone = "|".join(map(str, pids))
    pgrep.write_text(f'#!/bin/sh\n{shutil.which("pgrep")} "$@" | grep -xE "{alone}"\n')
    pgrep.chmod(0o755)
    return f"{pgrep.parent}{os.pathsep}{os.environ['PATH']}"


def test_the_searches_of_a_head_that_goes_are_ended_and_waited_for(drivers, tmp_path):
    direct = drivers(str(tmp_path / "hpa-search"), "run", "space.yaml", str(tmp_path / "direct"))
    job = drivers("-m", "hpa_search.cli", "run", "space.yaml", str(tmp_path / "job"))
    other = drivers(str(tmp_path / "hpa-search"), "status", "run", str(tmp_path / "other"))
    environment = {**os.environ, "PATH": only_ours(tmp_path, direct.pid, job.pid, other.pid)}
    ended = subprocess.Popen([CLUSTER / "end-searches.sh"], env=environment)
    assert (direct.wait(10), job.wait(10), ended.wait(10)) == (130, 130, 0)
    assert (tmp_path / "direct").read_text() == (tmp_path / "job").read_text() == "stopped"
    assert other.poll() is None


def test_a_search_that_does_not_end_is_not_waited_for_longer_than_ray_would(drivers, tmp_path):
    driver = drivers(str(tmp_path / "hpa-search"), "run", str(tmp_path / "stopped"))
    driver.send_signal(signal.SIGSTOP)
    environment = {**os.environ, "PATH": only_ours(tmp_path, driver.pid), "RAY_JOB_STOP_WAIT_TIME_S": "1"}
    began = time.monotonic()
    subprocess.run([CLUSTER / "end-searches.sh"], env=environment, check=True, timeout=20)
    assert time.monotonic() - began < 5 and driver.poll() is None


def test_with_no_search_there_is_nothing_to_do(tmp_path):
    environment = {**os.environ, "PATH": only_ours(tmp_path, 0)}
    subprocess.run([CLUSTER / "end-searches.sh"], env=environment, check=True, timeout=5)
