"""A search in the shell and folder of somebody who works on other things too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_search.engine.ray_logs import MOST_LINES
from tests.end_to_end.conftest import HERE, ray_processes

pytestmark = pytest.mark.ray

SEEN = """
import json, os, sys
from pathlib import Path
from hpa_search.engine.surroundings import settle
settle(None)
from hpa_search.engine.driver import Site, run_search
from hpa_search.engine.worker import Trials
from hpa_search.space.parsing import parse_search
from looking_trial import open_looking
out = Path(sys.argv[1])
out.mkdir()
# What the script's own folder is to this driver, that of the command is to the command's.
os.environ["DRIVER_PATH"] = json.dumps(sys.path)
search = parse_search("name: seen\\nspace:\\n  learning_rate: {log_range: [1.0e-4, 1.0e-1]}\\nbudget: {trials: 1}\\nscheduler: {kind: none, max_epochs: 1}\\nresources: {slots: 1, cpus: 1, gpus: 0}\\n", "seen.yaml")
print(run_search(search, Site(out), Trials(open_looking, str(out))))
"""

HOSTILE = {
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_ADDRESS": "10.255.255.1:6379",
    "RAY_API_SERVER_ADDRESS": "http://10.255.255.1:8265",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN_PATH": "/nowhere/token",
    "RAY_USE_TLS": "1",
    "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": "{",
    "RAY_worker_register_timeout_seconds": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "0.01",
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 0}',
    "TUNE_MAX_PENDING_TRIALS_PG": "0",
    "TUNE_RESULT_DIR": "/nowhere",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "MASTER_ADDR": "10.255.255.1",
    "MASTER_PORT": "1",
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "3",
    "GLOO_SOCKET_IFNAME": "ib7",
    "NCCL_SOCKET_IFNAME": "ib7",
    "PYTHONWARNINGS": "error",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "all_proxy": "http://127.0.0.1:9",
    "UV": "/nowhere/uv",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}

ABSENT = sorted(
    name
    for name in HOSTILE
    if name.startswith(("RAY_", "TUNE_", "TORCHELASTIC_", "GLOO_", "PYTHONW"))
    and name not in ("RAY_TRAIN_V2_ENABLED", "RAY_AUTH_MODE", "TUNE_MAX_PENDING_TRIALS_PG", "RAY_ADDRESS")
)


@pytest.fixture
def hostile(tmp_path):
    """A folder of scripts that are named as modules, a home that cannot be written, and a TMPDIR too long for sockets."""
    project = tmp_path / "my project"
    project.mkdir()
    for name in ("statistics", "timm", "queue", "types", "numpy", "torch", "ray", "logging"):
        (project / f"{name}.py").write_text('import sys\nsys.stderr.write("not that one")\nsys.exit(3)\n')
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    return project, {
        **os.environ,
        **HOSTILE,
        "HOME": str(home),
        "TMPDIR": str(deep),
        "PYTHONPATH": str(HERE),
        "OMP_NUM_THREADS": "1",
    }


def test_what_the_workers_of_a_search_see_in_a_hostile_shell(hostile, tmp_path):
    project, environment = hostile
    script = tmp_path / "driver.py"
    script.write_text(SEEN)
    command = [sys.executable, str(script), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "finished"
    seen = json.loads((tmp_path / "out" / "seen.json").read_text())
    variables = seen["environment"]
    print(table(seen))
    assert [name for name in ABSENT if name in variables] == []
    assert variables["RAY_TRAIN_V2_ENABLED"] == "1"
    assert variables["MASTER_ADDR"] != "10.255.255.1" and variables["RANK"] == "0" and variables["WORLD_SIZE"] == "1"
    assert "127.0.0.1" in variables["no_proxy"] and variables["http_proxy"] == "http://127.0.0.1:9"
    scratch = Path(variables["TMPDIR"])
    assert scratch.name.startswith("hpa-search-") and not scratch.exists()
    assert Path(seen["folder"]).is_relative_to(scratch)
    assert str(project) not in seen["path"] and "" not in seen["path"]
    assert set(seen["driver_path"]) <= set(seen["path"])
    assert len(variables["RAY_AUTH_TOKEN"]) == 64
    assert ray_processes() == []


def table(seen) -> str:
    rows = [("current folder", seen["folder"]), ("module path", os.pathsep.join(seen["path"]))]
    names = (*HOSTILE, "HOME", "TMPDIR", "RAY_TMPDIR", "PYTHONPATH", "OMP_NUM_THREADS", "no_proxy")
    rows += [(name, seen["environment"].get(name, "(not there)")) for name in names]
    return "\n".join(f"{name:<40} {value}" for name, value in rows)


SICK = """
import os, sys
if any("default_worker" in word for word in sys.orig_argv):
    os.write(2, b"Traceback (most recent call last):\\nImportError: libmissing.so.1: cannot open shared object file\\n")
    os._exit(1)
"""


def test_workers_that_end_while_they_import_are_told_with_their_last_lines(tmp_path):
    (tmp_path / "sick").mkdir()
    (tmp_path / "sick" / "sitecustomize.py").write_text(SICK)
    paths = os.pathsep.join([str(tmp_path / "sick"), str(HERE)])
    command = [sys.executable, str(HERE / "sleeping_search.py"), str(tmp_path / "out"), json.dumps({"trials": 1, "slots": 1})]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    message = done.stdout[done.stdout.index("Error: ") :]
    assert message.startswith("Error: Ray's workers do not start: none is up after ")
    assert "ImportError: libmissing.so.1: cannot open shared object file" in message
    assert len(message.splitlines()) <= MOST_LINES + 2
    assert ray_processes() == []
