"""Sending the job of a search to a cluster: one that was sent before and goes on, or whatever `submit` has made ready."""

import re
import shlex
import uuid

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import CACHE, OUT, SEARCH, our_jobs, start_job
from hpa_search.cluster.package import packed
from hpa_search.errors import UserError

RAY = ("--ray", "auto")
"""The job's driver joins the Ray that it runs on."""


def next_steps(name: str, address: str) -> list[str]:
    """Return the commands for the job ``name``."""
    steps = {
        "Its log:": f"logs {name} --address {address} --follow",
        "Its state:": f"status {name} --address {address} --watch",
        "Pause it:": f"pause {name} --address {address}",
        "Stop it:": f"stop {name} --address {address}",
        "Go on:": f"resume {name} --address {address}",
        "More of it:": f"extend {name} --address {address} --trials 20",
        "All jobs:": f"list --address {address}",
    }
    return [f"{title:<12}hpa-search {step}" for title, step in steps.items()]


def check_idle(dashboard: Dashboard, out: str) -> None:
    """Raise UserError while a job is at work on ``out``, or waits to be."""
    for job in our_jobs(dashboard):
        if job.out == out and not job.over:
            raise UserError(
                f"{dashboard.address}: the job {job.name} is {job.state} on {out} already; watch it with `hpa-search status "
                f"{job.name} --address {dashboard.address}`, or stop it first"
            )


def send(
    dashboard: Dashboard, command: list[str], *, search: str, out: str, cache: str | None, text: str | None = None
) -> list[str]:
    """Send the job that runs ``command`` of ours; return the lines that tell how to go on from there.

    ``search``, ``out`` and ``cache`` are its metadata; ``text`` is what its search.yaml holds, if it needs one.
    """
    name = f"{re.sub('[^A-Za-z0-9_.-]+', '-', search)}-{uuid.uuid4().hex[:8]}"
    metadata = {SEARCH: search, OUT: out} | ({CACHE: cache} if cache else {})
    with packed(text) as environment:
        start_job(dashboard, name, shlex.join(["python", "-m", "hpa_search.cli", *command]), environment, metadata)
    return [f"Submitted as {name}.", *next_steps(name, dashboard.address)]
