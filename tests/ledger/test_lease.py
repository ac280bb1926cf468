import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpa_search.errors import UserError
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.5)


def take(out):
    return lease.take(out, "toy", say=lambda line: None)


def is_free(out) -> bool:
    """Say whether the lease is there without a wait for a driver that may still be at work."""
    waits = []
    lease.take(out, "toy", say=waits.append).release()
    return not waits


def test_a_lease_given_back_is_there_at_once(tmp_path):
    take(tmp_path).release()
    assert is_free(tmp_path)


def test_a_renewed_lease_is_refused(tmp_path):
    held = take(tmp_path)
    with pytest.raises(UserError, match=f"being run by process {os.getpid()}"):
        take(tmp_path)
    held.release()


def test_a_driver_elsewhere_that_ends_while_it_is_looked_at_is_not_at_work(tmp_path):
    held = take(tmp_path)
    ledger = Ledger.create(tmp_path, "toy")
    before = {**ledger.noted()["lease"], "place": "another host"}
    held.release()
    assert not lease.is_alive(before, lambda: ledger.noted()["lease"])


def test_a_silent_driver_elsewhere_is_waited_for(tmp_path):
    held = take(tmp_path)
    held._ended.set()  # as if its host had stopped
    held._thread.join()
    ledger = Ledger.create(tmp_path, "toy")
    ledger.note("lease", {**ledger.noted()["lease"], "place": "another host"})
    started = time.monotonic()
    take(tmp_path).release()
    assert time.monotonic() - started >= 1.5


def test_a_driver_killed_on_this_machine_is_not_waited_for(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; from hpa_search.search import lease\n"
        "lease.take(Path(sys.argv[1]), 'toy'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert is_free(tmp_path)


def test_time_spent_adds_up_over_drivers(tmp_path):
    first = take(tmp_path)
    time.sleep(0.5)
    started = time.monotonic()
    first.stopwatch.run()
    time.sleep(0.5)
    first.stopwatch.run(False)
    ran = time.monotonic() - started
    time.sleep(0.5)
    first.release()
    second = take(tmp_path)
    assert 0.5 <= second.spent_seconds <= ran, "only the time in which the search ran counts"
    second.release()


def test_another_process_with_a_dead_drivers_number_is_not_taken_for_it(tmp_path):
    held = take(tmp_path)
    held._ended.set()
    held._thread.join()
    noted = held.ledger.noted()["lease"]
    assert lease.is_alive(noted, lambda: pytest.fail("this process runs"))
    held.ledger.note("lease", {**noted, "started": noted["started"] - 1})
    assert not lease.is_alive(held.ledger.noted()["lease"], lambda: pytest.fail("it is known to be dead"))
    assert is_free(tmp_path)


def test_a_driver_that_has_ended_and_was_not_waited_for_is_dead(tmp_path):
    process = subprocess.Popen(["true"])
    while "Z" not in (Path("/proc") / str(process.pid) / "stat").read_text():
        time.sleep(0.01)
    assert lease._started(process.pid) is None and lease._started(os.getpid()) is not None
    process.wait()
    assert lease._started(process.pid) is None


def test_a_driver_that_lost_its_lease_is_told(tmp_path):
    lost, reasons = threading.Event(), []
    held = lease.take(tmp_path, "toy", on_lost=lambda why: (reasons.append(why), lost.set()))
    ledger = Ledger.create(tmp_path, "toy")
    another = {**ledger.noted()["lease"], "holder": "another", "host": socket.gethostname()}
    for _ in range(100):
        ledger.note("lease", another)  # a beat of the holder's that had begun before overwrites it
        if lost.wait(0.3):
            break
    assert "another driver has taken this search" in reasons[0]
    held._thread.join()
