"""What tests of several packages share: a real S3 server and an empty bucket on it."""

import pytest

from hpa_search.storage.place import Place
from tests.s3 import Server, environment


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
