"""A signal ends a driver in order, and in any case."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hpa_search.search import ending as module
from hpa_search.search.ending import INTERRUPTED, Ending, Interrupted, signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_wish_to_end(number):
    ending = Ending()
    before = signal.getsignal(number)
    with signals(ending, pytest.fail):
        os.kill(os.getpid(), number)
        assert ending.now and ending.outcome == "interrupted"
        assert signal.getsignal(number) == before  # a second one ends the process as usual
    assert signal.getsignal(number) == before


def test_a_hang_up_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ending = Ending()
        with signals(ending, pytest.fail):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not ending.now
    finally:
        signal.signal(signal.SIGHUP, before)


def test_while_it_starts_a_signal_breaks_off_what_is_waited_for():
    ending = Ending()
    with signals(ending, pytest.fail), pytest.raises(Interrupted), ending.starting():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_what_ray_makes_of_a_signal_is_one_too():
    ending = Ending()
    with signals(ending, pytest.fail), pytest.raises(Interrupted), ending.starting():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except Interrupted:
            raise SystemError("returned a result with an exception set") from None


def test_another_error_of_the_start_stays_what_it_is():
    with pytest.raises(ValueError), Ending().starting():
        raise ValueError


HANGS = """
import os, signal, threading, time
from hpa_search.search import ending as module
module.PATIENCE = 0.2
with module.signals(module.Ending(), lambda: os.write(1, b"last")):
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        time.sleep(60)
"""


def test_a_driver_that_hangs_is_ended_all_the_same():
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (INTERRUPTED, b"last")


def test_the_last_resort_is_none_for_a_driver_that_ends_in_time(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    called = []
    with signals(Ending(), lambda: called.append(1)):
        os.kill(os.getpid(), signal.SIGINT)
    assert not [
        thread
        for thread in module.threading.enumerate()
        if isinstance(thread, module.threading.Timer) and not thread.finished.is_set()
    ]
    assert called == []
