"""A Ray that `ray start --head` brings up, on free ports, and that ends with the process that holds it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class RayHead:
    """``address`` is what a driver joins, ``dashboard`` where jobs are sent."""

    address: str
    dashboard: str
    pid: int


@contextmanager
def ray_head(log: Path, *, cpus: int = 2, environment: Mapping[str, str] = os.environ) -> Iterator[RayHead]:
    """Yield a running head of its own; its output goes to ``log``."""
    port, shown = _free_port(), _free_port()
    command = [RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={shown}", f"--num-cpus={cpus}"]
    with log.open("wb") as output:
        head = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=dict(environment))
    try:
        _wait_for(shown, log)
        yield RayHead(f"127.0.0.1:{port}", f"http://127.0.0.1:{shown}", head.pid)
    finally:
        end(psutil.Process(head.pid))


def end(head: psutil.Process) -> None:
    """End a Ray of our own, and nothing else: its processes are the head's descendants."""
    everything = [*head.children(recursive=True), head]
    for process in everything:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(everything, timeout=20)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _wait_for(port: int, log: Path) -> None:
    for _ in range(240):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text())
