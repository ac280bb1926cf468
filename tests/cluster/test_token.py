"""The token is found where Ray looks for it."""

import pytest

from hpa_search.cluster.token import auth_headers
from hpa_search.errors import UserError


def test_without_a_token_nothing_is_sent():
    assert auth_headers() == {}


def test_the_environment_comes_before_a_named_file_and_that_before_the_usual_one(monkeypatch, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("usual\n")
    assert auth_headers() == {"Authorization": "Bearer usual"}
    (tmp_path / "named").write_text(" named \n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert auth_headers() == {"Authorization": "Bearer named"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "first")
    assert auth_headers() == {"Authorization": "Bearer first"}


def test_what_was_set_for_ray_is_left_to_ray(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "first")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert auth_headers() == {}


def test_a_file_that_is_named_and_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="missing: the token for the cluster cannot be read"):
        auth_headers()
