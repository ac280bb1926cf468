"""What tests of several packages share: a small search, and real servers, started once where a test asks for them."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from hpa_search.space.parsing import parse_search
from hpa_search.space.search import Search
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from tests.servers.dashboard import StandIn
from tests.servers.postgres import postgres
from tests.servers.s3 import Server, environment

# The same examples in each run, unless new ones are asked for, as `make test-all` does.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("exploring", deadline=None)
settings.load_profile("repeatable")


SEARCH = """
name: toy
space:
  learning_rate: {{log_range: [1.0e-4, 1.0e-1]}}
budget: {budget}
scheduler: {{kind: {kind}, min_epochs: 1, max_epochs: 9, eta: 3}}
resources: {{slots: 2, cpus: 0.5, gpus: 0}}
final: {{members: {members}}}
seed: {seed}
"""


@pytest.fixture(scope="session")
def make_search():
    def make(budget="{trials: 12}", kind="promotion", members=3, seed=0):
        return parse_search(SEARCH.format(budget=budget, kind=kind, members=members, seed=seed), "toy.yaml")

    return make


@pytest.fixture(scope="session")
def make_pointed(make_search):
    """Return a function that makes a search of start points, each trained for epochs of its own."""

    def make(epochs=(3, 9, 1, 5)):
        points = [{"learning_rate": 0.001 * (number + 1)} for number in range(len(epochs))]
        scheduler = {"kind": "none", "max_epochs": 9, "point_epochs": tuple(epochs)}
        budget = {"trials": len(epochs)}
        changes = {"start_points": tuple(points), "scheduler": scheduler, "budget": budget, "sampler": "random"}
        return Search.model_validate({**make_search().model_dump(), **changes})

    return make


@pytest.fixture
def stand_in():
    """A stand-in for a cluster's dashboard."""
    server = StandIn()
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="session")
def _postgres():
    with postgres() as server:
        yield server


@pytest.fixture
def postgres_url(_postgres, monkeypatch):
    """The URL of a running PostgreSQL, with its password in the environment."""
    monkeypatch.setenv("PGPASSWORD", _postgres.password)
    return _postgres.url


@pytest.fixture
def own_postgres(monkeypatch):
    """A PostgreSQL that a test may stop."""
    with postgres() as server:
        monkeypatch.setenv("PGPASSWORD", server.password)
        yield server


@pytest.fixture(scope="session")
def s3_process():
    """The server, for the whole session: it takes a second to start."""
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_process, monkeypatch):
    """The server, with the environment of a user set to it; running again after the test."""
    for name, value in environment(s3_process.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield s3_process
    s3_process.start()


@pytest.fixture
def bucket(s3) -> Place:
    """An empty bucket of the test's own."""
    return Place.of(f"s3://{s3.bucket()}")


@pytest.fixture
def fetched(monkeypatch):
    """The names that are fetched from a store, in no order."""
    names, fetch = [], Store.fetch

    def watched(self, name, *rest):
        names.append(name)
        return fetch(self, name, *rest)

    monkeypatch.setattr(Store, "fetch", watched)
    return names


@pytest.fixture
def real_data() -> Path:
    """The folder of real images and labels, named by HPA_TEST_DATA."""
    if "HPA_TEST_DATA" not in os.environ:
        pytest.skip("HPA_TEST_DATA names no folder of real data")
    return Path(os.environ["HPA_TEST_DATA"])
