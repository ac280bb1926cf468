import threading
import time

import pytest

from hpa_search.errors import UserError
from hpa_search.storage import patience
from hpa_search.storage.patience import Patience, Unreachable, patiently


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.03)
    monkeypatch.setattr(patience, "QUIET", 0.0)


def is_busy(error):
    return str(error) == "busy"


class Failing:
    """Fails so many times, then answers."""

    def __init__(self, times, error="busy"):
        self.times, self.error, self.calls = times, error, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            raise OSError(self.error)
        return "answer"


def test_it_waits_and_continues_and_reports_each_once():
    told, call = [], Failing(5)
    assert patiently(call, "the server", transient=is_busy, seconds=5, tell=told.append) == "answer"
    assert call.calls == 6
    assert told == ["the server does not answer (busy); trying again for 5 seconds.", "the server answers again; continuing."]


def test_what_waiting_does_not_mend_is_raised_at_once():
    call = Failing(5, "denied")
    with pytest.raises(OSError, match="denied"):
        patiently(call, "the server", transient=is_busy, seconds=5)
    assert call.calls == 1


def test_it_gives_up_in_the_end():
    call, began = Failing(10**9), time.monotonic()
    with pytest.raises(Unreachable, match=r"the server did not answer for \d seconds \(busy\); do this") as caught:
        patiently(call, "the server", transient=is_busy, seconds=0.3, tell=lambda line: None, hint="do this")
    assert 0.1 < time.monotonic() - began < 20 and call.calls > 3
    assert isinstance(caught.value, UserError) and isinstance(caught.value.__cause__, OSError)


def test_pauses_grow_and_are_bounded(monkeypatch):
    slept = []
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 5.0)
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    patiently(Failing(30), "the server", transient=is_busy, tell=lambda line: None)
    assert slept[0] < 0.3 and slept[3] > slept[0] and max(slept) < 6.3 and slept[-1] > 3.7


def test_a_blip_is_not_reported(monkeypatch):
    monkeypatch.setattr(patience, "QUIET", 5.0)
    told = []
    assert patiently(Failing(3), "the server", transient=is_busy, tell=told.append) == "answer"
    assert told == []


def test_many_threads_report_an_outage_once():
    told, back = [], threading.Event()
    shared = Patience("the server", transient=is_busy, seconds=10, tell=told.append)

    def call():
        if not back.is_set():
            raise OSError("busy")

    threads = [threading.Thread(target=shared, args=(call,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    back.set()
    for thread in threads:
        thread.join()
    assert len(told) == 2
    shared(call)
    assert len(told) == 2
