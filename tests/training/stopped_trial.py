"""Trains the small trial in folders inside the one it is given, and is killed again and again in two of them.

Prints how often it was killed around renames of files, and how often at random instants.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from hpa_search.training.checkpoint import CHECKPOINT
from tests.training.trial import finish, make_trainer


def stopped_at_renames(folder: str) -> int:
    """Train the trial in processes that die just before and just after each rename of a file; return the stops.

    An epoch renames four files, and a start that resumes renames one.
    """
    deaths = [(rename, before) for rename in range(1, 6) for before in (True, False)]
    return sum(_child_stopped(folder, rename=rename, before=before) for rename, before in deaths)


def stopped_at_instants(folder: str, stops: int = 4) -> int:
    """Train the trial in processes that die at random instants, until so many have with an epoch behind them; return these.

    How long an epoch takes depends on what else the machine does: where none was done by the instant, the next come later, and
    where all were, the trial begins anew and they come sooner.
    """
    draw, within, stopped = random.Random(0), 4.0, 0
    while stopped < stops:
        if not _child_stopped(folder, after=draw.uniform(0.1, 0.8) * within):
            within *= 0.6
            shutil.rmtree(folder)
        elif (Path(folder) / CHECKPOINT).is_file():
            stopped += 1
        else:
            within *= 1.3
    return stopped


def _child_stopped(folder: str, *, rename: int = 0, before: bool = False, after: float = 60.0) -> bool:
    """Let a child train until it is done or stopped; tell whether it was stopped."""
    child = os.fork()
    if child == 0:
        if rename:
            _die_at_rename(rename, before)
        try:
            finish(make_trainer(folder))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(3)
        os._exit(0)
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _was_killed(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return _was_killed(os.waitpid(child, 0)[1])


def _was_killed(status: int) -> bool:
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit("the trial failed by itself")
    return False


def _die_at_rename(number: int, before: bool) -> None:
    """Make this process kill itself just before or after its rename of that number."""
    replace, seen = os.replace, [0]

    def replace_and_die(source, target):
        seen[0] += 1
        if seen[0] == number and before:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_die


if __name__ == "__main__":
    # This process never computes anything with torch itself, so that its children may be forked.
    parent = Path(sys.argv[1])
    assert not _child_stopped(str(parent / "whole"))
    print(stopped_at_renames(str(parent / "renames")), stopped_at_instants(str(parent / "instants")))
    assert not _child_stopped(str(parent / "renames"))
    assert not _child_stopped(str(parent / "instants"))
