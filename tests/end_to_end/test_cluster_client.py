"""A search on a Ray that asks for a token, commanded over HTTP alone, by way of a proxy that cuts connections."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from hpa_search.errors import UserError
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import read_status
from tests.servers.head import ENVIRONMENT, ray_head
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy

from .conftest import check_accounts

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

SPACE = """
name: sent
fixed: {full_size: 64, small_size: 64, batch_size: 8, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}}
budget: {trials: 120}
scheduler: {kind: promotion, min_epochs: 1, max_epochs: 2, eta: 3}
final: {onnx: false}
resources: {slots: 1, cpus: 1, gpus: 0}
"""
COUNTING = "import time\nfor i in range(80): print(f'line {i} of eighty, ä', flush=True); time.sleep(0.2)"


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    with ray_head(tmp_path_factory.mktemp("ray") / "log") as head:
        yield head


@pytest.fixture
def proxy(head):
    proxy = Proxy(head.port)
    yield proxy
    proxy.close()


@pytest.fixture
def address(proxy):
    return f"http://127.0.0.1:{proxy.port}"


def arguments_of(*arguments):
    return [sys.executable, "-m", "hpa_search.cli", *map(str, arguments)]


def hpa(*arguments, code=0, **changes):
    """Run a command; return its stdout, or its message where it is to fail."""
    environment, began = {**ENVIRONMENT, **changes}, time.monotonic()
    done = subprocess.run(arguments_of(*arguments), capture_output=True, text=True, timeout=200, env=environment, check=False)
    print(f"{time.monotonic() - began:.1f} s: hpa-search {' '.join(map(str, arguments))}\n{done.stderr}")
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def start(*arguments, stdout=subprocess.PIPE):
    return subprocess.Popen(
        arguments_of(*arguments), stdout=stdout, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=ENVIRONMENT
    )


def submitted(said):
    return re.search(r"Submitted as (\S+)\.", said)[1]


def wait_until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(UserError):  # OUT is not there yet
            if found := condition():
                return found
        time.sleep(0.2)
    raise AssertionError("it did not come to that in time")


def drivers(head, out):
    """Return the processes that run the search in ``out``."""
    found = []
    for process in head.processes():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "hpa_search.cli" in words and str(out) in words:
                found.append(process)
    return found


def check_nothing_left(head, out):
    """No process, actor or placement group of the search is left; Ray may take a moment for that."""
    wait_until(lambda: not drivers(head, out), 20)
    deadline = time.monotonic() + 30
    while left := head.living():
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def trained(out):
    """Return how many epochs the ledger knows of."""
    return sum(trial.epochs for trial in Ledger.open(out).trials())


def training(out, more_than=0):
    return lambda: read_status(out)["state"] == "running" and trained(out) > more_than


@pytest.mark.slow
def test_a_search_from_its_submission_to_its_end_with_everything_between(head, proxy, address, tmp_path):
    (tmp_path / "sent.yaml").write_text(SPACE)
    out, there = tmp_path / "out", ("--address", address)
    hpa("data", "phantom", tmp_path / "data", "--images", 160, "--test-images", 4, "--size", 64, "--lift", 6)
    places = ("--data", tmp_path / "data", "--out", out, "--cache", tmp_path / "cache")
    job = submitted(hpa("submit", tmp_path / "sent.yaml", *there, *places))
    log = start("logs", job, *there, "--follow")
    (row,) = json.loads(hpa("list", "--json", RAY_API_SERVER_ADDRESS=address))
    assert (row["name"], row["search"], row["out"]) == (job, "sent", str(out))
    wait_until(training(out))
    proxy.cut()
    assert json.loads(hpa("status", out, *there, "--json"))["trials"][0]["state"] != "waiting"
    proxy.cut()
    said = hpa("pause", job, *there, "--wait")
    assert f"hpa-search resume {out} --address {address}" in said and f"{job}: SUCCEEDED." in said
    assert read_status(out)["state"] == "paused"
    written, notes = log.communicate(timeout=60)
    assert log.returncode == 0 and f"{job}: SUCCEEDED." in notes
    assert written == hpa("logs", job, *there)
    assert len(json.loads(hpa("list", *there, "--json"))) == 1, "helpers are no searches and leave nothing behind"
    check_nothing_left(head, out)

    before = trained(out)
    second = submitted(hpa("resume", job, *there))
    log = start("logs", out, *there, "--follow")
    wait_until(training(out, before))
    assert "is RUNNING on" in hpa("resume", out, *there, code=2)
    assert "is extended by 2 trials" in hpa("extend", second, *there, "--trials", 2)
    (python,) = [process for process in drivers(head, out) if "python" in process.name()]
    python.send_signal(signal.SIGKILL)
    _, notes = log.communicate(timeout=60)
    assert log.returncode == 1 and re.search(rf"{second}: FAILED\. .*exit code", notes), notes
    check_nothing_left(head, out)
    assert hpa("status", second, *there).startswith(f"{second}: FAILED\ninterrupted, ")
    assert "No driver is at work" in hpa("pause", job, *there)
    assert read_status(out)["state"] == "paused"
    assert "No driver is at work" in hpa("stop", second, *there)
    assert read_status(out)["state"] == "stopped"
    assert f"hpa-search resume {out} --address" in hpa("extend", out, *there, "--trials", 1)

    before = trained(out)
    third = submitted(hpa("resume", out, *there))
    wait_until(training(out, before))
    assert f"{third}: SUCCEEDED." in hpa("stop", out, *there)
    assert read_status(out)["state"] == "stopped"
    check_nothing_left(head, out)

    last = submitted(hpa("resume", third, *there))
    log = start("logs", last, *there, "--follow")
    _, notes = log.communicate(timeout=400)
    assert log.returncode == 0, notes
    assert read_status(out)["state"] == "finished"
    check_accounts(out, trials=120 + 2 + 1)
    assert (out / "submission.csv").is_file()
    check_nothing_left(head, out)
    assert [row["name"] for row in json.loads(hpa("list", *there, "--json"))] == [last, third, second, job]
    assert hpa("list", *there).splitlines()[1].split()[:3] == [last, "sent", "SUCCEEDED"]


def send_counting(address, name, out, code=COUNTING):
    """Start a job with a search's metadata that only writes lines."""
    program = (
        "import shlex, sys; from hpa_search.cluster.dashboard import Dashboard\n"
        "address, name, out, code = sys.argv[1:]\n"
        "metadata = {'hpa_search': 'counting', 'out': out}\n"
        "Dashboard(address).send(name, shlex.join(['python', '-c', code]), {}, metadata)"
    )
    subprocess.run([sys.executable, "-c", program, address, name, out, code], env=ENVIRONMENT, check=True, timeout=60)


def test_a_log_is_whole_though_the_connection_is_cut_and_the_dashboard_restarted(head, proxy, address, tmp_path):
    send_counting(address, "counting-1", "/shared/counting")
    with (tmp_path / "log").open("wb") as file:
        log = start("logs", "/shared/counting", "--address", address, "--follow", stdout=file)
    written, cuts = tmp_path / "log", 0
    for line in (3, 15, 30):
        wait_until(lambda line=line: f"line {line} " in written.read_text("utf-8"))
        cuts += proxy.cut()
    wait_until(lambda: "line 45 " in written.read_text("utf-8"))
    head.restart_dashboard(seconds=3)
    _, notes = log.communicate(timeout=90)
    assert log.returncode == 0, notes
    assert cuts > 0
    assert "does not answer" in notes and "counting-1: SUCCEEDED." in notes
    assert re.findall(r"line (\d+) of eighty, ä\n", written.read_text("utf-8")) == [str(number) for number in range(80)]
    assert written.read_text("utf-8") == hpa("logs", "counting-1", "--address", address)


def test_stop_ends_what_does_not_hear_and_what_has_not_started(head, address):
    send_counting(address, "counting-2", "/shared/deaf", "import time; time.sleep(600)")
    log = start("logs", "counting-2", "--address", address, "--follow")
    assert "counting-2: STOPPED." in hpa("stop", "counting-2", "--address", address)
    _, notes = log.communicate(timeout=60)
    assert log.returncode == 130 and "counting-2: STOPPED." in notes
    assert "no search" in hpa("stop", "/shared/deaf", "--address", address, code=2)


def test_what_is_unknown_lists_what_is_there(head, address):
    send_counting(address, "counting-3", "/shared/known", "print(1)")
    for command in (["logs", "missing"], ["status", "missing"], ["pause", "missing"], ["stop", "missing"], ["resume", "missing"]):
        assert "counting-3 (/shared/known, " in hpa(*command, "--address", address, code=2)
    said = hpa("status", "/nowhere", "--address", address, code=2)
    assert "/nowhere" in said and "counting-3 (/shared/known, " in said


def test_a_wrong_token_is_explained(head):
    for command in (["list"], ["logs", "x"], ["status", "x"], ["pause", "x"]):
        assert "asks for a token" in hpa(*command, "--address", head.url, code=2, RAY_AUTH_TOKEN="f" * 64)
    assert "asks for a token" in hpa("list", "--address", head.url, code=2, RAY_AUTH_TOKEN="")


def test_no_cluster_is_said_so(tmp_path):
    (tmp_path / "sent.yaml").write_text(SPACE)
    there = ("--address", f"http://127.0.0.1:{free_port()}")
    for command in (["submit", tmp_path / "sent.yaml", "--data", "/x", "--out", "/y"], ["list"], ["stop", "/y"]):
        assert "no Ray dashboard answers there" in hpa(*command, *there, code=2)
