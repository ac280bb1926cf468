"""Every fault of a dashboard is one message, and only some may pass by themselves."""

import socket

import pytest

from hpa_search.cluster import dashboard as module
from hpa_search.cluster.dashboard import Dashboard
from hpa_search.errors import UserError
from hpa_search.storage.patience import Unreachable


def test_an_address_may_lack_its_scheme_and_end_in_a_slash(stand_in):
    assert Dashboard(f"127.0.0.1:{stand_in.port}/").address == f"http://127.0.0.1:{stand_in.port}"


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_address_that_is_given_counts_and_not_the_environment(stand_in, monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert Dashboard(f"http://127.0.0.1:{stand_in.port}").jobs() == []
    assert module.os.environ[name] == "http://127.0.0.1:9"


def test_the_token_is_sent_whatever_rays_mode_was_when_it_was_imported(stand_in, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    Dashboard(f"http://127.0.0.1:{stand_in.port}")
    assert stand_in.headers[-1]["Authorization"] == f"Bearer {'0123456789abcdef' * 4}"


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"127.0.0.1:{port}: no Ray dashboard answers there; .*ssh -L"):
        Dashboard(f"http://127.0.0.1:{port}")


def test_somebody_who_never_answers(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Unreachable, match="no Ray dashboard answers"):
        Dashboard(f"http://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_missing_or_wrong(stand_in, status):
    stand_in.status = status
    with pytest.raises(UserError, match="asks for a token") as refusal:
        Dashboard(f"http://127.0.0.1:{stand_in.port}")
    assert not isinstance(refusal.value, Unreachable)


def test_a_dashboard_in_trouble_may_recover(stand_in, dashboard):
    stand_in.status = 500
    with pytest.raises(Unreachable, match=r"did not list its jobs: Trouble: within \(HTTP status 500\)"):
        dashboard.jobs()
    with pytest.raises(Unreachable):
        Dashboard(dashboard.address)
    stand_in.status = 200
    assert dashboard.jobs() == []


def test_something_else_that_answers(stand_in):
    stand_in.page = "<html>a printer</html>"
    with pytest.raises(UserError, match="did not connect") as refusal:
        Dashboard(f"http://127.0.0.1:{stand_in.port}")
    assert not isinstance(refusal.value, Unreachable)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_dashboard_on_this_machine_is_asked_without_the_environments_proxy(stand_in, monkeypatch, name, host):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org")
    assert Dashboard(f"http://{host}:{stand_in.port}").jobs() == []


def test_a_proxy_that_does_not_lead_there_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"through the proxy http://127.0.0.1:9; add head.invalid to NO_PROXY"):
        Dashboard("http://head.invalid:8265")


@pytest.mark.parametrize("address", ["ray://x:10001", "http://", "http://127.0.0.1:99999999", "", "/shared/out"])
def test_an_address_that_is_none(address):
    with pytest.raises(UserError, match=rf"--address {address}: not the address of a dashboard; give one such as"):
        Dashboard(address)


def test_a_job_that_is_not_there(dashboard):
    assert dashboard.job("missing") is None
    with pytest.raises(UserError, match="HTTP status 40|HTTP status 500"):
        dashboard.stop("missing")
