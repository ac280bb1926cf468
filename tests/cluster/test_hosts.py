"""A search on a cluster of three hosts, whose data and OUT are on an S3 server and whose study is in a PostgreSQL.

It is submitted over HTTP from outside the cluster. Hosts are cut off, die and come late, and the driver is killed.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import find_job
from hpa_search.phantom.dataset import make_phantom
from hpa_search.storage.mirror import Mirror
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from tests.cluster.hosts import DASHBOARD, Host, Network, needs_hosts, network, wait_until
from tests.servers.head import KEPT_BY_RAY
from tests.servers.postgres import postgres
from tests.servers.s3 import Process, client, environment

pytestmark = [pytest.mark.ray, needs_hosts, pytest.mark.timeout(900)]

SPACE = """
name: spread
fixed: {{full_size: 32, small_size: 32, batch_size: {batch_size}, backbone: test_resnet}}
space: {{learning_rate: {{log_range: [1.0e-3, 1.0e-2]}}}}
budget: {{trials: 5}}
scheduler: {{kind: promotion, min_epochs: 3, max_epochs: 27, eta: 3}}
final: {{onnx: false, members: 2}}
resources: {{cpus: 1, gpus: 0}}
"""
TRIALS = 5
LONG = 2
"""The batch size of a search that lasts until Ray misses a host (half a minute) and another host joins."""


@dataclass(frozen=True)
class Cluster:
    """The hosts, and the view of a user outside: the servers' addresses and a search file."""

    net: Network
    folder: Path
    study: str
    bucket: str
    environment: dict[str, str]

    @property
    def head(self) -> Host:
        return next(host for name, host in self.net.hosts.items() if name.startswith("head"))

    @property
    def dashboard(self) -> str:
        return f"http://{self.head.address}:{DASHBOARD}"

    @property
    def out(self) -> str:
        return f"s3://{self.bucket}/searches/first"

    def start(self, workers: int) -> list[Host]:
        """Bring up a head and workers."""
        head = self.net.head()
        wait_until(lambda: self.nodes() == 1, 120, f"no head: {head.log.read_text()}")
        hosts = [self.net.worker(head) for _ in range(workers)]
        wait_until(lambda: self.nodes() == 1 + workers, 120, "workers did not join")
        return hosts

    def nodes(self) -> int:
        return sum(node["state"] == "ALIVE" for node in self.api("nodes"))

    def api(self, what: str) -> list[dict]:
        """Return what Ray's state API lists."""
        try:
            with urllib.request.urlopen(f"{self.dashboard}/api/v0/{what}", timeout=10) as answer:
                return json.load(answer)["data"]["result"]["result"]
        except OSError:
            return []

    def ask(self, *arguments: str) -> str:
        """Run our command line outside of the cluster."""
        command = [sys.executable, "-m", "hpa_search.cli", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, batch_size: int = 16) -> str:
        """Submit the search; return the job's name."""
        (self.folder / "space.yaml").write_text(SPACE.format(batch_size=batch_size))
        data = f"s3://{self.bucket}/data"
        told = self.ask(
            "submit", "space.yaml", "--address", self.dashboard, "--data", data, "--out", self.out, "--study", self.study
        )
        return told.split()[2].rstrip(".")

    def state(self, job: str) -> str:
        return find_job(Dashboard(self.dashboard), job).state

    def trials(self) -> list[dict]:
        """Return each trial of the ledger, read from outside; an empty list before the search begins."""
        try:
            return json.loads(self.ask("status", self.out, "--json"))["trials"]
        except AssertionError:
            return []

    def wait_for_epochs(self, epochs: int, job: str) -> None:
        def there() -> bool:
            assert self.state(job) in ("PENDING", "RUNNING"), Dashboard(self.dashboard).log(job)[-3000:]
            return sum(trial["epochs"] for trial in self.trials()) >= epochs

        wait_until(there, 300)

    def wait_for_end(self, job: str, state: str = "SUCCEEDED") -> None:
        wait_until(lambda: self.state(job) not in ("PENDING", "RUNNING"), 500, "the job does not end")
        assert self.state(job) == state, Dashboard(self.dashboard).log(job)[-3000:]

    def check_complete(self) -> None:
        """Each trial is accounted for once, the bundle exists, and no host has remains of the search."""
        found = json.loads(self.ask("status", self.out, "--json"))
        assert found["state"] == "finished"
        assert [trial["number"] for trial in found["trials"]] == list(range(TRIALS))
        for trial in found["trials"]:
            assert trial["state"] in ("complete", "pruned"), trial
            assert [report["epoch"] for report in trial["reports"]] == list(range(1, trial["epochs"] + 1))
        stored = Store(Place.of(self.out)).list()
        assert {"bundle/bundle.json", "result.json", "submission.csv"} <= stored.keys()
        wait_until(lambda: not self.left(), 60, f"left: {self.left()}")

    def left(self) -> list[str]:
        """Return the remains of a search: busy workers and actors, and placement groups."""
        titles = [
            " ".join(one.cmdline()) for host in self.net.hosts.values() for one in host.processes("ray::") if one.is_running()
        ]
        kept = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", *(f"ray::{name}" for name in KEPT_BY_RAY))
        busy = [title for title in titles if not title.startswith(kept)]
        groups = [group["placement_group_id"] for group in self.api("placement_groups") if group["state"] != "REMOVED"]
        return busy + groups


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with network(tmp_path, {}) as net, postgres(net.address) as database:
        store = Process(net.address)
        user = {**environment(store.url), "AWS_EC2_METADATA_DISABLED": "true", "PGPASSWORD": database.password}
        net.environment.update(user)
        for name, value in {**user, "RAY_AUTH_MODE": "disabled", "HPA_SEARCH_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, value)
        try:
            client(store.url).create_bucket(Bucket="hpa")
            make_phantom(tmp_path / "data", images=240, size=32, seed=1, test_images=4, workers=1)
            Mirror(Store(Place.of("s3://hpa/data")), tmp_path / "data").push()
            yield Cluster(net, tmp_path, database.url, "hpa", dict(os.environ))
        finally:
            store.end()
            for host in net.hosts.values():
                print(host.name, host.log.read_text()[-500:] if host.log.exists() else "was not started")


def test_a_search_submitted_from_outside_finishes(cluster):
    cluster.start(workers=2)
    job = cluster.submit()
    cluster.wait_for_end(job)
    cluster.check_complete()
    assert cluster.environment["PGPASSWORD"] not in Dashboard(cluster.dashboard).log(job)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cut_off", "die"])
def test_a_host_that_goes_in_mid_trial_costs_no_trial(cluster, loss):
    hosts = cluster.start(workers=2)
    job = cluster.submit(LONG)
    cluster.wait_for_epochs(4, job)
    wait_until(lambda: hosts[0].processes("ray::RayTrainWorker"), 60)
    getattr(hosts[0], loss)()
    cluster.wait_for_end(job)
    if loss == "cut_off":
        hosts[0].die()
    cluster.check_complete()
    assert "its trial resumes elsewhere" in Dashboard(cluster.dashboard).log(job)


@pytest.mark.slow
def test_a_host_that_joins_late_is_used(cluster):
    cluster.start(workers=1)
    job = cluster.submit(LONG)
    cluster.wait_for_epochs(1, job)
    late = cluster.net.worker(cluster.head)
    wait_until(lambda: late.processes("ray::RayTrainWorker") or cluster.state(job) != "RUNNING", 300)
    cluster.wait_for_end(job)
    assert "2 slot(s) now." in Dashboard(cluster.dashboard).log(job)
    cluster.check_complete()


@pytest.mark.slow
def test_a_driver_that_is_killed_is_resumed_from_outside(cluster):
    cluster.start(workers=2)
    job = cluster.submit(LONG)
    cluster.wait_for_epochs(3, job)
    before = {trial["number"]: trial["reports"] for trial in cluster.trials()}
    (driver,) = [one for one in cluster.head.processes("-m hpa_search.cli run") if one.cmdline()[0].endswith("python")]
    driver.send_signal(signal.SIGKILL)
    cluster.wait_for_end(job, "FAILED")
    told = cluster.ask("resume", cluster.out, "--address", cluster.dashboard)
    cluster.wait_for_end(told.split()[2].rstrip("."))
    cluster.check_complete()
    for trial in cluster.trials():
        known = before.get(trial["number"], [])
        assert trial["reports"][: len(known)] == known
