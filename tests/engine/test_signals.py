"""A signal ends a driver in order, and in any case."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from hpa_search.engine import signals as module
from hpa_search.engine.cluster_up import _signals_as_they_are
from hpa_search.engine.driver import CUT_OFF
from hpa_search.engine.signals import INTERRUPTED, Interrupted, Signals
from hpa_search.search.life import Life
from hpa_search.search.log import LOG


@pytest.fixture(autouse=True)
def _ctrl_c_as_in_a_terminal():
    """Take SIGINT as Python does: whoever runs the tests may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def running():
    """Return the life of a driver whose Ray is up."""
    life = Life()
    life.run()
    return life


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_wish_to_end(number):
    life = running()
    before = signal.getsignal(number)
    with Signals(life, pytest.fail):
        os.kill(os.getpid(), number)
        assert life.is_ending and life.outcome == "interrupted"
        assert signal.getsignal(number) == before  # a second one ends the process as usual
    assert signal.getsignal(number) == before


def test_a_hang_up_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        life = running()
        with Signals(life, pytest.fail):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not life.is_ending
    finally:
        signal.signal(signal.SIGHUP, before)


def test_while_it_starts_a_signal_breaks_off_what_is_waited_for():
    life = Life()
    with Signals(life, pytest.fail) as signals, pytest.raises(Interrupted), signals.interrupting():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_what_ray_makes_of_a_signal_is_one_too():
    life = Life()
    with Signals(life, pytest.fail) as signals, pytest.raises(Interrupted), signals.interrupting():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except Interrupted:
            raise SystemError("returned a result with an exception set") from None


@pytest.fixture
def alarm():
    """Set an alarm that somebody else waits for."""
    handler, before = signal.signal(signal.SIGALRM, signal.SIG_IGN), signal.setitimer(signal.ITIMER_REAL, 1000)
    yield
    signal.setitimer(signal.ITIMER_REAL, *before)
    signal.signal(signal.SIGALRM, handler)


def test_a_signal_in_a_callback_that_drops_exceptions_ends_the_start_all_the_same(alarm, capsys):
    """As when it comes around the fork of one of Ray's processes."""

    class Dropping:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    life, hook, began = Life(), sys.unraisablehook, time.monotonic()
    with Signals(life, pytest.fail) as signals, pytest.raises(Interrupted), signals.interrupting():
        Dropping()
        time.sleep(60)
    assert time.monotonic() - began < 30
    assert sys.unraisablehook is hook and "Traceback" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_IGN and signal.getitimer(signal.ITIMER_REAL)[0] > 900


def test_trouble_before_a_signal_leaves_the_start_interruptible():
    life = Life()
    with Signals(life, pytest.fail) as signals, pytest.raises(Interrupted), signals.interrupting():
        life.break_off("another driver has taken this search")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    assert life.trouble == "another driver has taken this search"


def test_another_error_of_the_start_stays_what_it_is():
    with pytest.raises(ValueError), Signals(Life(), pytest.fail).interrupting():
        raise ValueError


HANGS = """
import os, signal, threading, time
from hpa_search.engine import signals as module
from hpa_search.search.life import Life
module.ORDERLY_SECONDS = 0.2
life = Life()
life.run()
with module.Signals(life, lambda: os.write(1, b"last")):
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        time.sleep(60)
"""


def test_a_driver_that_hangs_is_ended_all_the_same():
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (INTERRUPTED, b"last")


def test_the_last_resort_is_none_for_a_driver_that_ends_in_time(monkeypatch):
    monkeypatch.setattr(module, "ORDERLY_SECONDS", 0.05)
    called = []
    with Signals(running(), lambda: called.append(1)):
        os.kill(os.getpid(), signal.SIGINT)
    assert not [
        thread
        for thread in module.threading.enumerate()
        if isinstance(thread, module.threading.Timer) and not thread.finished.is_set()
    ]
    assert called == []


def test_a_second_signal_in_the_middle_of_rays_start_ends_the_process_as_usual():
    life = Life()
    with Signals(life, pytest.fail) as signals, pytest.raises(KeyboardInterrupt):
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line has it
        signal.signal(signal.SIGTERM, before)
        try:
            with signals.interrupting(), _signals_as_they_are():
                os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)


LAST = """
import os, sys
from pathlib import Path
from hpa_search.engine import driver, signals
driver.end_processes = lambda scratch: Path(sys.argv[1], "ended").touch()
signals._leave(lambda: driver._leave_behind(Path(sys.argv[1], "scratch"), Path(sys.argv[1])))
"""


@pytest.mark.long
@pytest.mark.parametrize("stderr", ["gone", "full"])
def test_the_last_resort_needs_no_terminal_and_waits_for_no_reader(tmp_path, stderr):
    (tmp_path / "scratch").mkdir()
    reads, writes = os.pipe()
    if stderr == "full":
        os.set_blocking(writes, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writes, bytes(65536))
        os.set_blocking(writes, True)
    else:
        os.close(reads)
    try:
        done = subprocess.run([sys.executable, "-c", LAST, str(tmp_path)], stderr=writes, timeout=120, check=False)
    finally:
        os.close(writes)
    assert done.returncode == INTERRUPTED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ended", LOG]
    assert CUT_OFF in (tmp_path / LOG).read_text()
