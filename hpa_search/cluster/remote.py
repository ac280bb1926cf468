"""Run our own commands on the cluster, where OUT is visible, by a small helper job."""

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
"""The key of a helper's metadata. Its value is the command that the helper runs."""

ANSWER_SECONDS = 180.0
"""How long a helper may take to start and run."""

AWAY_SECONDS = 60.0
"""How long to wait for a dashboard that does not answer."""

POLL_SECONDS = 0.5


class RemoteError(UserError):
    """A command failed on the cluster, with this message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Answer(Record):
    """The exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str

    def checked(self) -> str:
        """Return stdout. Raises RemoteError if the command failed."""
        if self.code == 0:
            return self.out
        lines = self.err.strip().splitlines() or ["it printed nothing"]
        refusal = re.search(r"^Error: (.*)", self.err, re.DOTALL | re.MULTILINE)
        raise RemoteError(refusal[1].strip() if refusal else f"the command crashed on the cluster: {lines[-1]}", self.code)


def ask(dashboard: Dashboard, *commands: Sequence[str]) -> list[Answer]:
    """Run ``commands`` on the cluster's head, one after the other; return their answers.

    Raises UserError if the cluster cannot run them. The refusals of a command itself are in its answer.
    """
    entrypoint = shlex.join(["python", "-m", "hpa_search.cluster.answer", json.dumps(commands)])
    with _helper(dashboard, commands[-1][0], entrypoint) as name:
        details = _ended(dashboard, name)
        log = patiently(lambda: dashboard.log(name), dashboard.address, transient=is_away, seconds=AWAY_SECONDS)
    answers = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    if not answers:
        raise UserError(f"{dashboard.address}: `hpa-search {shlex.join(commands[-1])}` could not run there: {_why(details, log)}")
    return [Answer(**answer) for answer in json.loads(answers[-1])]


@contextmanager
def _helper(dashboard: Dashboard, word: str, entrypoint: str) -> Iterator[str]:
    """Start a helper and yield its name. Remove it from the list of jobs afterwards."""
    name = f"hpa-search-{word}-{uuid.uuid4().hex[:8]}"
    with packed() as environment:
        start_job(dashboard, name, entrypoint, environment, {HELPER: word})
    try:
        yield name
    except BaseException:  # also Ctrl-C: nobody waits for the answer any more
        with suppress(UserError):
            dashboard.stop(name)
        raise
    finally:
        with suppress(UserError):
            dashboard.forget(name)


def _ended(dashboard: Dashboard, name: str) -> Any:
    """Wait for the job ``name``; return its details, or None for a forgotten job."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        details = patiently(lambda: dashboard.job(name), dashboard.address, transient=is_away, seconds=AWAY_SECONDS)
        if details is None or details.status.is_terminal():
            return details
        if time.monotonic() > deadline:
            raise UserError(
                f"{dashboard.address}: the cluster has not run the helper {name} in {ANSWER_SECONDS:.0f} s "
                f"({details.status.value}: {details.message}); check that its head is up and not overloaded"
            )
        time.sleep(POLL_SECONDS)


def _why(details: Any, log: str) -> str:
    message = details.message if details is not None else "the cluster has forgotten the helper; was the cluster restarted?"
    return " ".join(f"{message or log}".split())[-1000:]
