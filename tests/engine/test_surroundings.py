"""What a Ray inherits of a shell that other projects have left their variables in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_search.engine.surroundings import KEPT, NO_HOME, OURS, elsewhere, has_home, settle, settled, spare_loopback


@pytest.fixture(autouse=True)
def shell(monkeypatch):
    """An environment of the test's own: what `settle` does to it is undone."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in [name for name in os.environ if name.startswith(("RAY_", "TUNE_"))]:
        del os.environ[name]
    return os.environ


FOREIGN = {
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_ADDRESS": "10.0.0.1:6379",
    "RAY_AUTH_TOKEN_PATH": "/nowhere/token",
    "RAY_RUNTIME_ENV_HOOK": "my.hook",
    "RAY_USE_TLS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "GLOO_SOCKET_IFNAME": "ib0",
    "NCCL_SOCKET_IFNAME": "ib0",
    "MASTER_ADDR": "node17",
    "WORLD_SIZE": "8",
    "PYTHONWARNINGS": "error",
}


def test_a_local_ray_sees_no_variable_that_steers_another(shell):
    shell.update(FOREIGN)
    assert settle(None) == tuple(sorted(FOREIGN))
    assert {name: shell.get(name) for name in FOREIGN} == {name: OURS.get(name) for name in FOREIGN}
    assert settle(None) == ()


def test_a_local_ray_keeps_what_is_a_users_to_say(shell):
    mine = dict.fromkeys(KEPT, "1") | {
        "OMP_NUM_THREADS": "3",
        "CUDA_VISIBLE_DEVICES": "1",
        "PYTHONPATH": "/mine",
        "NCCL_DEBUG": "INFO",
    }
    shell.update(mine)
    assert settle(None) == ()
    assert mine.items() <= shell.items()


def test_a_ray_that_is_joined_is_reached_with_the_users_own_variables(shell):
    shell.update(FOREIGN)
    assert settle("10.0.0.1:6379") == ()
    assert shell["RAY_AUTH_TOKEN_PATH"] == "/nowhere/token" and shell["RAY_USE_TLS"] == "1"
    assert shell["RAY_TRAIN_V2_ENABLED"] == "1" and shell["TUNE_MAX_PENDING_TRIALS_PG"] == "1000"


def test_afterwards_all_is_as_before(shell, tmp_path):
    shell.update(FOREIGN)
    before = dict(shell)
    with settled(None, tmp_path):
        assert len(shell["RAY_AUTH_TOKEN"]) == 64
        assert (shell["TMPDIR"], shell["RAY_TMPDIR"]) == (str(tmp_path), str(tmp_path))
    assert dict(shell) == before


def test_each_local_ray_has_a_token_of_its_own(shell, tmp_path):
    tokens = set()
    for _ in range(2):
        with settled(None, tmp_path):
            tokens.add(shell["RAY_AUTH_TOKEN"])
    assert len(tokens) == 2


@pytest.mark.parametrize("home", [None, ""])
def test_a_user_without_a_home_gets_one_in_the_scratch_folder(shell, monkeypatch, tmp_path, home):
    monkeypatch.setattr("hpa_search.engine.surroundings.has_home", lambda: False)
    shell.pop("HOME", None)
    shell.update({} if home is None else {"HOME": home})
    settle(None)
    assert shell["HOME"] == NO_HOME
    with settled(None, tmp_path):
        assert shell["HOME"] == str(tmp_path)


def test_an_empty_home_is_none(shell):
    shell["HOME"] = ""
    assert not has_home()
    shell["HOME"] = "/home/me"
    assert has_home()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"no_proxy": "head,127.0.0.1"}, "head,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a, b", "no_proxy": "c"}, "c,a,b,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_no_proxy_is_asked_for_what_is_on_this_machine(shell, before, after):
    for name in ("no_proxy", "NO_PROXY"):
        shell.pop(name, None)
    shell.update(before)
    spare_loopback()
    assert shell["no_proxy"] == shell["NO_PROXY"] == after


def test_the_current_folder_is_another_for_a_while_only(tmp_path):
    before = Path.cwd()
    with elsewhere(tmp_path):
        assert Path.cwd() == tmp_path
    assert Path.cwd() == before


def test_a_current_folder_that_is_gone_is_no_hindrance(tmp_path):
    before, gone = Path.cwd(), tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        with elsewhere(tmp_path):
            assert Path.cwd() == tmp_path
        with pytest.raises(FileNotFoundError):
            Path.cwd()
    finally:
        os.chdir(before)


IMPORTED = """
from hpa_search.engine.driver import run_search
from ray._private import ray_constants
from ray.train.torch import TorchTrainer
print(TorchTrainer.__module__.split(".")[2], ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV)
"""


@pytest.mark.long
def test_ray_is_imported_as_slots_need_it_whatever_the_shell_says():
    environment = {**os.environ, "RAY_TRAIN_V2_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1"}
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["v2", "False"]


@pytest.mark.parametrize(("given", "left"), [("ignore", "ignore"), ("error", None), ("ignore::UserWarning", "ignore")])
def test_of_the_driver_own_filters_of_warnings_only_those_that_raise_go(given, left):
    program = "from hpa_search.engine.surroundings import settle; settle(None); import warnings; print({one[0] for one in warnings.filters})"
    environment = {**os.environ, "PYTHONWARNINGS": given}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert "error" not in done.stdout
    assert left is None or left in done.stdout
