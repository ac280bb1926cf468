"""The list of jobs, for people and for programs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hpa_search.cluster.jobs import Job

TITLES = ("JOB", "SEARCH", "STATE", "STARTED", "DURATION", "OUT")


def table(jobs: Sequence[Job], now: float) -> list[str]:
    """Return the lines of a table with local times; ``now`` is in Unix seconds."""
    rows = [TITLES, *(_row(job, now) for job in jobs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def for_programs(jobs: Sequence[Job], now: float) -> list[dict[str, Any]]:
    """Return the fields of each job for JSON, and in ``seconds`` how long it ran.

    ``now``, ``started`` and ``ended`` are Unix seconds. A running job counts until ``now``.
    """
    return [{**job.model_dump(), "seconds": _seconds(job, now)} for job in jobs]


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as 2h05m."""
    whole = round(seconds)
    for unit, larger, smaller in ((86_400, "d", "h"), (3600, "h", "m"), (60, "m", "s")):
        if whole >= unit:
            rest = whole % unit // {"d": 3600, "h": 60, "m": 1}[larger]
            return f"{whole // unit}{larger}{rest:02d}{smaller}"
    return f"{whole}s"


def _row(job: Job, now: float) -> tuple[str, ...]:
    started = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M") if job.started else "-"
    seconds = _seconds(job, now)
    return job.name, job.search, job.state, started, "-" if seconds is None else duration(seconds), job.out


def _seconds(job: Job, now: float) -> float | None:
    """Return how long the job ran. It is at least 0: the clocks of cluster and laptop may differ."""
    if job.started is None:
        return None
    return round(max((job.ended or now) - job.started, 0.0), 1)
