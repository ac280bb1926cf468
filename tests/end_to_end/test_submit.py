"""A search sent through the Jobs API to a Ray that `ray start --head` brought up, which asks for a token."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from hpa_search.search.study import Ledger

pytestmark = pytest.mark.ray

SPACE = """
name: sent
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}}
budget: {trials: 3}
scheduler: {kind: promotion, min_epochs: 1, max_epochs: 2, eta: 3}
final: {onnx: false}
resources: {slots: 1, cpus: 1, gpus: 0}
"""
RAY = str(Path(sys.executable).with_name("ray"))
# The nodes' `python` is the one of this environment, as where it is activated.
PATHS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
ENVIRONMENT = {**os.environ, "PATH": PATHS, "OMP_NUM_THREADS": "1", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """A Ray of our own: it ends with the process that holds it."""
    log = tmp_path_factory.mktemp("ray") / "log"
    port, shown = free_port(), free_port()
    command = [RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={shown}", "--num-cpus=2"]
    with log.open("wb") as output:
        environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "token"}
        head = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environment)
    try:
        wait_for(shown, log)
        yield f"http://127.0.0.1:{shown}"
    finally:
        end(psutil.Process(head.pid))


def end(head):
    """End a Ray of our own, and nothing else: its processes are the head's descendants."""
    everything = [*head.children(recursive=True), head]
    for process in everything:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(everything, timeout=20)


def wait_for(port, log):
    for _ in range(120):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text())


def hpa_search(*arguments, **changes):
    command = [sys.executable, "-m", "hpa_search.cli", *map(str, arguments)]
    environment = {**ENVIRONMENT, **changes}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)


def ask_job(what, job, dashboard):
    command = [RAY, "job", what, job, "--address", dashboard]
    environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "token"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False).stdout


def test_a_submitted_search_finishes(dashboard, tmp_path):
    (tmp_path / "sent.yaml").write_text(SPACE)
    phantom = ("data", "phantom", tmp_path / "data", "--images", 80, "--test-images", 4, "--size", 32, "--lift", 4)
    assert hpa_search(*phantom).returncode == 0
    arguments = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    sent = hpa_search("submit", tmp_path / "sent.yaml", "--address", dashboard, *arguments)
    assert sent.returncode == 0, sent.stderr
    job = re.search(r"Submitted as (\S+)\.", sent.stdout)[1]
    assert f"ray job logs {job} --address {dashboard} --follow" in sent.stdout
    deadline = time.monotonic() + 240
    while not re.search("succeeded|failed|stopped", ask_job("status", job, dashboard)) and time.monotonic() < deadline:
        time.sleep(2)
    assert "succeeded" in ask_job("status", job, dashboard), ask_job("logs", job, dashboard)
    assert [trial.end is not None for trial in Ledger.open(tmp_path / "out").trials()] == [True] * 3
    assert (tmp_path / "out" / "submission.csv").is_file()


def test_a_wrong_token_is_explained(dashboard, tmp_path):
    (tmp_path / "sent.yaml").write_text(SPACE)
    arguments = ("--address", dashboard, "--data", "/x", "--out", "/y")
    sent = hpa_search("submit", tmp_path / "sent.yaml", *arguments, RAY_AUTH_TOKEN="f" * 64)
    assert sent.returncode == 2
    assert "asks for a token" in sent.stderr and "Traceback" not in sent.stderr


def test_no_cluster_is_said_so(tmp_path):
    (tmp_path / "sent.yaml").write_text(SPACE)
    arguments = ("--address", f"http://127.0.0.1:{free_port()}", "--data", "/x", "--out", "/y")
    sent = hpa_search("submit", tmp_path / "sent.yaml", *arguments)
    assert sent.returncode == 2
    assert "did not take the job" in sent.stderr and "Traceback" not in sent.stderr
