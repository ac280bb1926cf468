"""Hosts on one machine: network namespaces on a bridge, each with its own processes, mounts and name.

A host has its own address, /tmp, shared memory and home, and sees only its own processes. All hosts reach the servers on the
bridge's address. The test makes and removes them, and needs root and iproute2.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
GCS, DASHBOARD = 6379, 8265
STAGE = "/mnt"
SETUP = """
set -e
hostname {name}
mount --make-rprivate /
if [[ {root} == /tmp/* ]]; then mount --bind {root} {stage}; fi
mount -t tmpfs tmpfs /tmp
mount -t tmpfs -o size=1g tmpfs /dev/shm
if [[ {root} == /tmp/* ]]; then mkdir -p {root}; mount --move {stage} {root}; fi
mkdir -p /tmp/home /tmp/cache
ip link set lo up
exec "$@"
"""


def _works() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    name = f"probe{uuid.uuid4().hex[:6]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return made


needs_hosts = pytest.mark.skipif(not _works(), reason="hosts in network namespaces need root and iproute2 (Debian's package)")


@dataclass
class Host:
    """One host. The end of ``process``, its first process, ends all others on it."""

    name: str
    address: str
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def boot(self, *command: str) -> None:
        """Start the host with the one command that it runs."""
        script = SETUP.format(name=self.name, root=ROOT, stage=STAGE)
        inside = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
        words = ["ip", "netns", "exec", self.name, *inside, "bash", "-c", script, self.name, *command]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                words, stdout=output, stderr=output, env=dict(self.environment), start_new_session=True
            )

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Return the host's processes whose command line holds ``title``."""
        if self.process is None or self.process.poll() is not None:
            return []
        return [one for one in psutil.Process(self.process.pid).children(recursive=True) if title in _title(one)]

    def cut_off(self) -> None:
        """Pull the network cable; the processes keep running."""
        run("ip", "link", "set", f"b-{self.name}", "down")

    def die(self) -> None:
        """Switch the host off."""
        if self.process is not None and self.process.poll() is None:
            everything = self.processes()
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            psutil.wait_procs(everything, timeout=20)


@dataclass
class Network:
    """A bridge and its hosts; ``address`` is this machine's address on the bridge."""

    number: int
    folder: Path
    environment: Mapping[str, str]
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def bridge(self) -> str:
        return f"hpabr{self.number}"

    @property
    def address(self) -> str:
        return f"10.77.{self.number}.1"

    def add(self, name: str) -> Host:
        """Connect a host without booting it."""
        name, address = f"{name}{self.number}", f"10.77.{self.number}.{11 + len(self.hosts)}"
        run("ip", "netns", "add", name)
        host = self.hosts[name] = Host(name, address, self.folder / f"{name}.log", self.environment)
        run("ip", "link", "add", f"b-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"b-{name}", "master", self.bridge, "up")
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        return host

    def head(self) -> Host:
        """Add a host with Ray's head, which trains nothing."""
        host = self.add("head")
        here = [f"--node-ip-address={host.address}", f"--port={GCS}", "--dashboard-host=0.0.0.0", f"--dashboard-port={DASHBOARD}"]
        host.boot(str(RAY), "start", "--head", "--block", "--num-cpus=0", "--object-store-memory=100000000", *here)
        return host

    def worker(self, head: Host, *, cpus: int = 1) -> Host:
        """Add a host that joins ``head``."""
        host = self.add(f"work{len(self.hosts)}")
        here = [f"--node-ip-address={host.address}", f"--num-cpus={cpus}", "--object-store-memory=100000000"]
        host.boot(str(RAY), "start", f"--address={head.address}:{GCS}", "--block", *here)
        return host


@contextmanager
def network(folder: Path, environment: Mapping[str, str]) -> Iterator[Network]:
    """Yield a network without hosts, and remove everything on it afterwards. Hosts see ``environment`` too."""
    # A host shares this checkout and its Python environment by path, and nothing else.
    seen = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "PG", "HPA_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": "/tmp/home",
        "TMPDIR": "/tmp",
        "HPA_SEARCH_CACHE": "/tmp/cache",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        **environment,
    }
    made = Network(_free_number(), folder, seen)
    run("ip", "link", "add", made.bridge, "type", "bridge")
    try:
        run("ip", "address", "add", f"{made.address}/24", "dev", made.bridge)
        run("ip", "link", "set", made.bridge, "up")
        yield made
    finally:
        for host in made.hosts.values():
            host.die()
            # The kernel removes this end of the cable only some time after the namespace.
            subprocess.run(["ip", "link", "delete", f"b-{host.name}"], capture_output=True, check=False)
            run("ip", "netns", "delete", host.name)
        run("ip", "link", "delete", made.bridge)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def wait_until(condition, seconds: float, what: str = "it did not come to that") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def _free_number() -> int:
    taken = run("ip", "-brief", "link")
    return next(number for number in range(100, 250) if f"hpabr{number}" not in taken)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
