"""Jobs of searches. Their metadata distinguishes them from the other jobs of a cluster."""

import posixpath
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.config import Record
from hpa_search.errors import UserError
from hpa_search.hints import command
from hpa_search.storage.patience import OUTAGE_SECONDS, Say, Unreachable, patiently

SEARCH, OUT, CACHE = "hpa_search", "out", "cache"
"""Keys of a job's metadata. A job without the first is not ours; a helper of `remote` has none of them."""

State = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
MOST_SHOWN = 10
"""How many jobs a message names."""
POLL_SECONDS = 1.0
START_SECONDS = 60.0
"""How long to retry sending a job to a cluster that has just come up."""


class Job(Record):
    """The job of a search.

    ``name`` is Ray's submission id, and ``search`` the name in the search file. ``out`` and ``cache`` are places as the
    cluster's nodes see them. ``started`` (the submission) and ``ended`` are Unix seconds. ``message`` is Ray's comment on the
    state.
    """

    name: str
    search: str
    out: str
    cache: str | None = None
    state: State
    started: float | None = None
    ended: float | None = None
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether the state is final."""
        return self.state not in ("PENDING", "RUNNING")


class Target(Record):
    """A search on a cluster: its OUT there, and its newest job, if any is known."""

    out: str
    job: Job | None


def our_jobs(dashboard: Dashboard) -> list[Job]:
    """Return the jobs of searches, newest first."""
    found = [_ours(details) for details in dashboard.jobs()]
    return sorted((job for job in found if job is not None), key=lambda job: (-(job.started or 0), job.name))


def find_job(dashboard: Dashboard, name: str) -> Job:
    """Return the job ``name``, or else the newest job of the OUT ``name``.

    Raises UserError, with the known jobs, if there is neither.
    """
    jobs = our_jobs(dashboard)
    for job in jobs:
        if name == job.name:
            return job
    for job in jobs:
        if _is_place(name) and tidy(name) == job.out:
            return job
    raise UserError(f"{dashboard.address} knows no job or search {name}; {in_words(jobs)}")


def find_target(dashboard: Dashboard, target: str) -> Target:
    """Return the search that ``target`` names: a job's name, or an OUT on the cluster.

    An OUT needs no known job: a restarted cluster has forgotten its jobs. Raises UserError, with the known jobs, for any other
    text.
    """
    jobs = our_jobs(dashboard)
    outs = [job.out for job in jobs if job.name == target] or [tidy(target)] * _is_place(target)
    if not outs:
        raise UserError(
            f"{dashboard.address} knows no job {target}; {in_words(jobs)}. Give the name of a job, or an OUT as an absolute path "
            "or a URL"
        )
    return Target(out=outs[0], job=next((job for job in jobs if job.out == outs[0]), None))


def in_words(jobs: Iterable[Job]) -> str:
    """Return a line that names the jobs, at most `MOST_SHOWN`."""
    shown = [f"{job.name} ({job.out}, {job.state})" for job in jobs]
    if not shown:
        return "it knows no job of hpa-search at all"
    more = f", and {len(shown) - MOST_SHOWN} older ones" if len(shown) > MOST_SHOWN else ""
    return f"it knows {', '.join(shown[:MOST_SHOWN])}{more}"


def start_job(
    dashboard: Dashboard, name: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Start a job; retry for `START_SECONDS`, because a new dashboard answers before it takes jobs.

    Raises Unreachable when the time is over, and UserError if the job is refused.
    """

    def once() -> None:
        if dashboard.job(name) is None:  # an earlier try may have worked, and only its answer be lost
            dashboard.send(name, entrypoint, runtime_env, metadata)

    patiently(once, dashboard.address, transient=is_away, seconds=START_SECONDS)


def look_again(dashboard: Dashboard, job: Job, tell: Say, seconds: float = OUTAGE_SECONDS) -> Job:
    """Return ``job`` in its present state; wait up to ``seconds`` for an absent dashboard.

    Raises UserError if the cluster has forgotten the job, and Unreachable when the wait is over.
    """
    details = patiently(lambda: dashboard.job(job.name), dashboard.address, transient=is_away, seconds=seconds, tell=tell)
    found = _ours(details) if details is not None else None
    if found is None:
        raise UserError(
            f"{dashboard.address} does not know {job.name} any more; was the cluster restarted? "
            f"To resume its search: {command('resume', job.out, '--address', dashboard.address)}"
        )
    return found


def wait_for_end(dashboard: Dashboard, job: Job, seconds: float, say: Callable[[str], None]) -> Job:
    """Return ``job`` once its state is final, or in its present state after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        job = look_again(dashboard, job, say)
        if job.over or time.monotonic() > deadline:
            return job
        time.sleep(POLL_SECONDS)


def is_away(error: Exception) -> bool:
    """Whether a retry may help."""
    return isinstance(error, Unreachable)


def is_url(place: str) -> bool:
    """Whether ``place`` names something on a server, such as s3://bucket/folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def tidy(place: str) -> str:
    """Return a path or URL as metadata has it: each folder has one name."""
    return place.rstrip("/") if is_url(place) else posixpath.normpath(place)


def _is_place(text: str) -> bool:
    return is_url(text) or posixpath.isabs(text)


def _ours(details: Any) -> Job | None:
    metadata = details.metadata or {}
    if details.submission_id is None or SEARCH not in metadata or OUT not in metadata:
        return None
    return Job(
        name=details.submission_id,
        search=metadata[SEARCH],
        out=metadata[OUT],
        cache=metadata.get(CACHE),
        state=details.status.value,
        started=_seconds(details.start_time),
        ended=_seconds(details.end_time),
        message=details.message or "",
    )


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None
