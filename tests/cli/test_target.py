"""Which handle a command gets, and what that imports."""

import subprocess
import sys

import pytest

from hpa_search.cli.target import search_at
from hpa_search.cluster.control import ClusterHandle
from hpa_search.control import OutHandle

WATCHED = ("torch", "ray", "timm", "pandas", "sklearn")


@pytest.mark.parametrize(("address", "kind"), [(None, OutHandle), ("", OutHandle), ("http://127.0.0.1:9", ClusterHandle)])
def test_an_address_means_a_cluster_and_nothing_is_contacted_yet(address, kind):
    with search_at("/nowhere", address) as search:
        assert type(search) is kind


@pytest.mark.parametrize("command", [["status"], ["pause"], ["stop"]])
def test_a_search_here_is_asked_without_the_slow_imports(command, out):
    program = (
        "import sys; from click.testing import CliRunner; from hpa_search.cli import main\n"
        "result = CliRunner().invoke(main, sys.argv[1:])\n"
        f"print(result.exit_code, [name for name in {WATCHED} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, *command, out], capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n"


def test_the_address_may_be_in_the_environment(hpa, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9: no Ray dashboard answers there" in hpa("status", "/shared/toy", code=2)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    assert "no search here" in hpa("status", "/shared/toy", code=2)
