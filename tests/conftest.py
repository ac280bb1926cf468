"""What tests of several packages share: real servers, started once and only where they are asked for."""

import pytest

from tests.servers.postgres import postgres


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
