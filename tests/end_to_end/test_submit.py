"""A search sent through the Jobs API to a Ray that `ray start --head` brought up."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from hpa_search.search.study import Ledger

pytestmark = pytest.mark.ray

SPACE = """
name: sent
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}}
budget: {trials: 3}
scheduler: {kind: promotion, min_epochs: 1, max_epochs: 2, eta: 3}
resources: {slots: 1, cpus: 1, gpus: 0}
"""


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def dashboard(tmp_path):
    """A Ray of our own: it ends with the process that holds it."""
    port, shown = free_port(), free_port()
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--dashboard-port={shown}",
    ]
    command += ["--num-cpus=2", "--disable-usage-stats"]
    with (tmp_path / "ray.log").open("wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(shown, tmp_path / "ray.log")
        yield f"http://127.0.0.1:{shown}"
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(30)


def wait_for(port, log):
    for _ in range(120):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text())


def hpa_search(*arguments):
    command = [sys.executable, "-m", "hpa_search.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )


def test_a_submitted_search_finishes(dashboard, tmp_path):
    (tmp_path / "sent.yaml").write_text(SPACE)
    assert (
        hpa_search("data", "phantom", tmp_path / "data", "--images", 80, "--test-images", 4, "--size", 32, "--lift", 4).returncode
        == 0
    )
    arguments = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    sent = hpa_search("submit", tmp_path / "sent.yaml", "--address", dashboard, *arguments)
    assert sent.returncode == 0, sent.stderr
    job = re.search(r"Submitted as (\S+)\.", sent.stdout)[1]
    assert f"ray job logs {job} --address {dashboard} --follow" in sent.stdout
    client = JobSubmissionClient(dashboard)
    deadline = time.monotonic() + 240
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(1)
    assert client.get_job_status(job) == "SUCCEEDED", client.get_job_logs(job)
    assert [trial.end is not None for trial in Ledger.open(tmp_path / "out").trials()] == [True] * 3
    assert (tmp_path / "out" / "submission.csv").is_file()


def test_no_cluster_is_said_so(tmp_path):
    (tmp_path / "sent.yaml").write_text(SPACE)
    sent = hpa_search(
        "submit", tmp_path / "sent.yaml", "--address", f"http://127.0.0.1:{free_port()}", "--data", "x", "--out", "y"
    )
    assert sent.returncode == 2
    assert "did not take the job" in sent.stderr and "Traceback" not in sent.stderr
