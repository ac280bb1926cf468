"""Follow the log of a job over connections that break. Only the job's state says that it ended."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import Job, is_away, look_again
from hpa_search.errors import UserError
from hpa_search.storage.patience import Unreachable, patiently

SILENT_SECONDS = 30.0
"""After so long without output, connect again: a cut connection looks like a job that writes nothing."""

PAUSE_SECONDS = 1.0
"""Between two connections."""
LAST_WORDS_SECONDS = 10.0
"""How long to retry reading the end of the log, once the job has ended."""


class Shown:
    """Write each character of a log once, however often the log is read."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self.count = write, 0

    def take(self, begin: int, text: str) -> None:
        """Write the new part of ``text``, which starts at the character ``begin`` of the log."""
        new = text[max(self.count - begin, 0) :]
        if new:
            self._write(new)
            self.count += len(new)


def follow(dashboard: Dashboard, job: Job, write: Callable[[str], None], say: Callable[[str], None]) -> Job:
    """Write the log of ``job`` until its state is final; return the job in that state.

    After a broken connection the log is read from its beginning again. ``say`` hears of an absent dashboard.
    Raises Unreachable if the dashboard stays away, and UserError if it refuses.
    """
    shown = Shown(write)
    while True:
        # Whatever ended the connection, the job's state decides; a lasting refusal is raised below.
        with suppress(UserError):
            asyncio.run(_tail(dashboard, job, shown))
        job = look_again(dashboard, job, say)
        if job.over:
            _finish(dashboard, job, shown, say)
            return job
        # A proxy or tunnel may block WebSockets, but not this request.
        with suppress(Unreachable):
            shown.take(0, dashboard.log(job.name))
        time.sleep(PAUSE_SECONDS)


async def _tail(dashboard: Dashboard, job: Job, shown: Shown) -> None:
    """Show the log over one connection until it ends, breaks or stays silent."""
    begin = 0
    async with aclosing(dashboard.tail(job.name)) as pieces:  # type: ignore[type-var]
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                shown.take(begin, piece)
                begin += len(piece)


def _finish(dashboard: Dashboard, job: Job, shown: Shown, say: Callable[[str], None]) -> None:
    """Write the part that the last connection left out. The log of a lost node is lost."""
    try:
        log = patiently(
            lambda: dashboard.log(job.name), dashboard.address, transient=is_away, seconds=LAST_WORDS_SECONDS, tell=say
        )
    except UserError as error:
        say(f"The end of the log can no longer be read: {error}")
    else:
        shown.take(0, log)
