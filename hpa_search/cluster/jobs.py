"""Our jobs among all that a cluster remembers: read from the metadata that they were sent with."""

import posixpath
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.config import Record
from hpa_search.errors import UserError
from hpa_search.hints import command
from hpa_search.storage.patience import PATIENCE, Tell, Unreachable, patiently

SEARCH, OUT, CACHE = "hpa_search", "out", "cache"
"""The keys of a job's metadata; a job without the first is none of ours, and a helper (see `remote`) has none of them."""

State = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
MOST_SHOWN = 10
POLL_SECONDS = 1.0
START_SECONDS = 60.0


class Job(Record):
    """A search's job: ``name`` is Ray's submission id, ``out`` as the cluster's nodes see it; times are Unix seconds.

    ``started`` is when it was submitted. ``message`` is what Ray says of its state.
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
        """Whether its state is final."""
        return self.state not in ("PENDING", "RUNNING")


class Target(Record):
    """A search on a cluster: its folder there, and its newest job, if the cluster remembers one."""

    out: str
    job: Job | None


def our_jobs(dashboard: Dashboard) -> list[Job]:
    """Return the jobs of searches, the newest first."""
    found = [_ours(details) for details in dashboard.jobs()]
    return sorted((job for job in found if job is not None), key=lambda job: (-(job.started or 0), job.name))


def find_job(dashboard: Dashboard, name: str) -> Job:
    """Return the job called ``name``, or else the newest of the search in the folder ``name``.

    Raises UserError that lists what is there, if this is not.
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
    """Return the search that a job's name or its folder on the cluster names.

    A folder may be one that no job is known of, for a cluster that was started anew has forgotten its jobs. Raises
    UserError that lists what is there.
    """
    jobs = our_jobs(dashboard)
    outs = [job.out for job in jobs if job.name == target] or [tidy(target)] * _is_place(target)
    if not outs:
        raise UserError(f"{dashboard.address} knows no job {target}, and this is no whole path or URL; {in_words(jobs)}")
    return Target(out=outs[0], job=next((job for job in jobs if job.out == outs[0]), None))


def in_words(jobs: Iterable[Job]) -> str:
    """Return which jobs there are, in one line."""
    shown = [f"{job.name} ({job.out}, {job.state})" for job in jobs]
    if not shown:
        return "it knows no job of hpa-search at all"
    more = f", and {len(shown) - MOST_SHOWN} older ones" if len(shown) > MOST_SHOWN else ""
    return f"it knows {', '.join(shown[:MOST_SHOWN])}{more}"


def start_job(
    dashboard: Dashboard, name: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Start a job, waiting for a cluster that has just come up: its dashboard answers some time before it can take jobs.

    Raises Unreachable when it has been waited for long enough, UserError if the job is refused.
    """

    def once() -> None:
        if dashboard.job(name) is None:  # an answer may have been lost on its way
            dashboard.send(name, entrypoint, runtime_env, metadata)

    patiently(once, dashboard.address, transient=is_away, seconds=START_SECONDS)


def look_again(dashboard: Dashboard, job: Job, tell: Tell, seconds: float = PATIENCE) -> Job:
    """Return ``job`` as it is now, waiting for a dashboard that is away.

    Raises UserError if the cluster has forgotten it, and Unreachable when the wait is over.
    """
    details = patiently(lambda: dashboard.job(job.name), dashboard.address, transient=is_away, seconds=seconds, tell=tell)
    found = _ours(details) if details is not None else None
    if found is None:
        raise UserError(
            f"{dashboard.address} does not know {job.name} any more; was the cluster started anew? "
            f"To go on with its search: {command('resume', job.out, '--address', dashboard.address)}"
        )
    return found


def wait_for_end(dashboard: Dashboard, job: Job, seconds: float, say: Callable[[str], None]) -> Job:
    """Return ``job`` when its state is final, or after ``seconds`` as it is then."""
    deadline = time.monotonic() + seconds
    while True:
        job = look_again(dashboard, job, say)
        if job.over or time.monotonic() > deadline:
            return job
        time.sleep(POLL_SECONDS)


def is_away(error: Exception) -> bool:
    """Whether asking again may help."""
    return isinstance(error, Unreachable)


def is_url(place: str) -> bool:
    """Whether ``place`` names something on a server, such as s3://bucket/folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def tidy(place: str) -> str:
    """Return a path or URL as it is written in metadata, so that one folder has one name."""
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
