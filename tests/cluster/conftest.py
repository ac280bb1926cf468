"""A stand-in for a dashboard, and an environment without the user's tokens."""

import pytest

from hpa_search.cluster.dashboard import Dashboard


@pytest.fixture(autouse=True)
def _nobody(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def dashboard(stand_in):
    return Dashboard(f"http://127.0.0.1:{stand_in.port}")
