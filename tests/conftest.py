"""What tests of several packages share: real servers, started once and only where they are asked for."""

import pytest
from hypothesis import settings

from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from tests.servers.postgres import postgres
from tests.servers.s3 import Server, environment

# The same examples in each run, unless new ones are asked for, as `make test-all` does.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("exploring", deadline=None)
settings.load_profile("repeatable")


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
