"""A Ray that `ray start --head` brings up, which asks for a token; it ends with the process that holds it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from ray._common.utils import get_ray_address_file

from tests.servers.ports import free_port

RAY = str(Path(sys.executable).with_name("ray"))
# The nodes' `python` is the one of this environment, as where it is activated.
PATHS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
TOKEN = "0123456789abcdef" * 4
ENVIRONMENT = {**os.environ, "PATH": PATHS, "OMP_NUM_THREADS": "1", "RAY_AUTH_TOKEN": TOKEN}

KEPT_BY_RAY = ("_AutoscalingCoordinatorActor",)
"""Ray Train starts one of these per cluster, which outlives all jobs."""


class Head:
    """The cluster whose dashboard is at ``port`` of this host."""

    def __init__(self, process: subprocess.Popen[bytes], gcs: int, port: int) -> None:
        self.process, self.port = process, port
        self.address = f"127.0.0.1:{gcs}"
        self.url = f"http://127.0.0.1:{port}"
        self._dashboard: subprocess.Popen[bytes] | None = None

    def processes(self) -> list[psutil.Process]:
        """Return what belongs to this Ray: the head's descendants, and a dashboard that was started anew."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        if self._dashboard is not None:
            with suppress(psutil.NoSuchProcess):
                again = psutil.Process(self._dashboard.pid)
                found += [again, *again.children(recursive=True)]
        return found

    def living(self) -> list[str]:
        """Return the actors and placement groups that are there, by Ray's State API, but for one actor of Ray's own."""
        actors = [actor["class_name"] for actor in self._ask("actors") if actor["state"] != "DEAD"]
        groups = [group["placement_group_id"] for group in self._ask("placement_groups") if group["state"] != "REMOVED"]
        return [name for name in actors if name not in KEPT_BY_RAY] + groups

    def _ask(self, kind: str) -> list[dict[str, Any]]:
        request = urllib.request.Request(f"{self.url}/api/v0/{kind}?limit=1000", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]["result"]["result"]

    def restart_dashboard(self, seconds: float) -> None:
        """End the dashboard, and start one like it ``seconds`` later."""
        (old,) = [p for p in self.processes() if any(word.endswith("dashboard/dashboard.py") for word in _words(p))]
        command, environment, family = old.cmdline(), old.environ(), [*old.children(recursive=True), old]
        old.terminate()  # the head takes a dashboard's SIGTERM for a wish
        psutil.wait_procs(family, timeout=20)
        time.sleep(seconds)
        self._dashboard = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port)

    def end(self) -> None:
        everything = [*self.processes(), psutil.Process(self.process.pid)]
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everything, timeout=20)
        # As `ray stop` does: else all that asks for the host's Ray afterwards waits for this one.
        last_started = Path(get_ray_address_file(None))
        if last_started.exists() and last_started.read_text().endswith(self.address[self.address.index(":") :]):
            last_started.unlink()


@contextmanager
def ray_head(log: Path, cpus: int = 2) -> Iterator[Head]:
    """Yield a Ray of our own."""
    port, shown = free_port(), free_port()
    command = [RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={shown}", f"--num-cpus={cpus}"]
    with log.open("wb") as output:
        environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "token"}
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environment)
    head = Head(process, port, shown)
    try:
        assert wait_for_port(shown), log.read_text()
        yield head
    finally:
        head.end()


def wait_for_port(port: int, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.2)
    return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
