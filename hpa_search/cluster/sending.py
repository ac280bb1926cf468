"""Send the job of a search to a cluster, for `submit` and `resume`."""

import re
import shlex
import uuid

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import CACHE, OUT, SEARCH, our_jobs, start_job
from hpa_search.cluster.package import packed
from hpa_search.errors import UserError

RAY = ("--ray", "auto")
"""The driver of a job joins the Ray that the job runs on."""


def next_steps(name: str, address: str) -> list[str]:
    """Return the lines that show the commands for the job ``name``."""
    steps = {
        "Its log:": f"logs {name} --address {address} --follow",
        "Its state:": f"status {name} --address {address} --watch",
        "Pause it:": f"pause {name} --address {address}",
        "Stop it:": f"stop {name} --address {address}",
        "Resume it:": f"resume {name} --address {address}",
        "Extend it:": f"extend {name} --address {address} --trials 20",
        "All jobs:": f"list --address {address}",
    }
    return [f"{title:<12}hpa-search {step}" for title, step in steps.items()]


def check_idle(dashboard: Dashboard, out: str) -> None:
    """Refuse an ``out`` on which a job runs or waits to start."""
    for job in our_jobs(dashboard):
        if job.out == out and not job.over:
            raise UserError(
                f"{dashboard.address}: the job {job.name} is {job.state} on {out} already; watch it with `hpa-search status "
                f"{job.name} --address {dashboard.address}`, or stop it first"
            )


def send(
    dashboard: Dashboard, command: list[str], *, search: str, out: str, cache: str | None, text: str | None = None
) -> list[str]:
    """Send the job that runs our ``command``; return the lines with its name and commands.

    ``search``, ``out`` and ``cache`` are the job's metadata. ``text`` is the content of its search.yaml, None for no file.
    Raises UserError if the cluster refuses the job.
    """
    name = f"{re.sub('[^A-Za-z0-9_.-]+', '-', search)}-{uuid.uuid4().hex[:8]}"
    metadata = {SEARCH: search, OUT: out} | ({CACHE: cache} if cache else {})
    with packed(text) as environment:
        start_job(dashboard, name, shlex.join(["python", "-m", "hpa_search.cli", *command]), environment, metadata)
    return [f"Submitted as {name}.", *next_steps(name, dashboard.address)]
