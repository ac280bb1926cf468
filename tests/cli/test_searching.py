"""The end of a process that ran a search."""

import subprocess
import sys

import pytest

from hpa_search.cli.searching import leave

WITH_A_THREAD = """
import sys, threading, time
from hpa_search.cli.searching import leave
threading.Thread(target=time.sleep, args=(60,)).start()
print("the last line")
leave("interrupted")
"""


@pytest.mark.parametrize(
    ("outcome", "code"), [("finished", 0), ("paused", 0), ("stopped", 0), ("submitted", 0), ("interrupted", 130)]
)
def test_the_exit_code_of_an_outcome(outcome, code):
    command = [sys.executable, "-c", f"from hpa_search.cli.searching import leave; leave({outcome!r})"]
    assert subprocess.run(command, check=False).returncode == code


def test_an_outcome_other_than_an_interrupt_ends_as_any_command():
    with pytest.raises(SystemExit) as end:
        leave("finished")
    assert end.value.code == 0


def test_an_interrupt_waits_for_no_thread_and_loses_no_output():
    done = subprocess.run([sys.executable, "-c", WITH_A_THREAD], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (130, "the last line\n")
