"""A job's log as it is written, over connections that break; how the job ended is its status' word, not the log's."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import Job, is_away, look_again
from hpa_search.errors import UserError
from hpa_search.storage.patience import Unreachable, patiently

SILENT_SECONDS = 30.0
"""A connection that was cut without a word looks like a job that writes nothing: after so long a new one is made."""

PAUSE_SECONDS = 1.0
LAST_WORDS_SECONDS = 10.0


class Shown:
    """Writes each character of a log once, however often the log is read from its beginning."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self.count = write, 0

    def take(self, begin: int, text: str) -> None:
        """Write what is new of ``text``, which stands in the log from the character ``begin`` on."""
        new = text[max(self.count - begin, 0) :]
        if new:
            self._write(new)
            self.count += len(new)


def follow(dashboard: Dashboard, job: Job, write: Callable[[str], None], say: Callable[[str], None]) -> Job:
    """Write the log of ``job`` until its state is final, and return it as it is then.

    The log is read from the beginning again after a connection broke or the dashboard was away. ``say`` hears of what
    keeps it waiting. Raises Unreachable if the dashboard stays away, UserError if it refuses.
    """
    shown = Shown(write)
    while True:
        with suppress(UserError):
            asyncio.run(_tail(dashboard, job, shown))
        job = look_again(dashboard, job, say)
        if job.over:
            _finish(dashboard, job, shown, say)
            return job
        # A way to the cluster that lets no WebSocket through still has this.
        with suppress(Unreachable):
            shown.take(0, dashboard.log(job.name))
        time.sleep(PAUSE_SECONDS)


async def _tail(dashboard: Dashboard, job: Job, shown: Shown) -> None:
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
    """Write what the last connection left out; a node that is gone has taken its logs along."""
    try:
        log = patiently(
            lambda: dashboard.log(job.name), dashboard.address, transient=is_away, seconds=LAST_WORDS_SECONDS, tell=say
        )
    except UserError as error:
        say(f"The end of the log can no longer be read: {error}")
    else:
        shown.take(0, log)
