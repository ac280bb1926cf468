"""Our own commands, run on the cluster by a small helper job, because OUT is seen from there."""

import json
import re
import shlex
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from hpa_search.cluster.answer import MARK
from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import is_away, start_job
from hpa_search.cluster.package import packed
from hpa_search.config import Record
from hpa_search.errors import UserError
from hpa_search.storage.patience import patiently

HELPER = "hpa_search_helper"
"""The key of a helper's metadata: the command that it runs."""

ANSWER_SECONDS = 180.0
AWAY_SECONDS = 60.0
POLL_SECONDS = 0.5


class RemoteError(UserError):
    """A command was refused on the cluster, with this message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Answer(Record):
    """A command's exit code and what it wrote."""

    code: int
    out: str
    err: str

    def checked(self) -> str:
        """Return what it wrote to stdout. Raises RemoteError if it failed."""
        if self.code == 0:
            return self.out
        said = self.err.strip().splitlines() or ["it said nothing"]
        told = re.search(r"^Error: (.*)", self.err, re.DOTALL | re.MULTILINE)
        raise RemoteError(told[1].strip() if told else f"the command broke off on the cluster: {said[-1]}", self.code)


def ask(dashboard: Dashboard, *commands: Sequence[str]) -> list[Answer]:
    """Run ``commands`` on the cluster's head, one after the other, and return their answers.

    Raises UserError if the cluster cannot run them; the commands' own refusals are in their answers.
    """
    entrypoint = shlex.join(["python", "-m", "hpa_search.cluster.answer", json.dumps(commands)])
    with _helper(dashboard, commands[-1][0], entrypoint) as name:
        details = _ended(dashboard, name)
        log = patiently(lambda: dashboard.log(name), dashboard.address, transient=is_away, seconds=AWAY_SECONDS)
    answers = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    if not answers:
        raise UserError(
            f"{dashboard.address}: `hpa-search {shlex.join(commands[-1])}` could not be run there: {_why(details, log)}"
        )
    return [Answer(**answer) for answer in json.loads(answers[-1])]


@contextmanager
def _helper(dashboard: Dashboard, word: str, entrypoint: str) -> Iterator[str]:
    """Start a helper; afterwards leave no trace of it in the cluster's list of jobs."""
    name = f"hpa-search-{word}-{uuid.uuid4().hex[:8]}"
    with packed() as environment:
        start_job(dashboard, name, entrypoint, environment, {HELPER: word})
    try:
        yield name
    except BaseException:
        with suppress(UserError):
            dashboard.stop(name)
        raise
    finally:
        with suppress(UserError):
            dashboard.forget(name)


def _ended(dashboard: Dashboard, name: str) -> Any:
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        details = patiently(lambda: dashboard.job(name), dashboard.address, transient=is_away, seconds=AWAY_SECONDS)
        if details is None or details.status.is_terminal():
            return details
        if time.monotonic() > deadline:
            raise UserError(
                f"{dashboard.address}: the cluster has not run the helper {name} in {ANSWER_SECONDS:.0f} s ({details.status.value}: "
                f"{details.message}); see that its head is up and not overloaded"
            )
        time.sleep(POLL_SECONDS)


def _why(details: Any, log: str) -> str:
    message = details.message if details is not None else "the cluster has forgotten it; was it started anew?"
    return " ".join(f"{message or log}".split())[-1000:]
