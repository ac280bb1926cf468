"""An exception that Python drops is raised again, and another's alarm is left alone."""

import signal
import sys
import time

import pytest

from hpa_search.interrupts import raised_again


class Dropping:
    def __init__(self, error):
        self._error = error

    def __del__(self):
        raise self._error


def test_what_was_dropped_is_raised_again_and_all_is_as_before():
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), raised_again(KeyboardInterrupt):
        Dropping(KeyboardInterrupt())
        time.sleep(60)
    assert sys.unraisablehook is hook and signal.getsignal(signal.SIGALRM) == handler


def test_what_else_is_dropped_is_reported_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
    with raised_again(KeyboardInterrupt):
        Dropping(ValueError())
    assert told == [ValueError]
