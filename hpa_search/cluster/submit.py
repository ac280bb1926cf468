"""Sending a search to a cluster: a new one, or one that goes on."""

import shlex
import uuid
from pathlib import Path

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import CACHE, OUT, SEARCH, Target, our_jobs, tidy
from hpa_search.cluster.package import packed
from hpa_search.cluster.places import check_place
from hpa_search.errors import UserError
from hpa_search.search.reading import read_search
from hpa_search.search.study_place import check_url

RAY = ("--ray", "auto")


def submit(
    space: Path,
    address: str,
    data: str,
    out: str,
    *,
    external: str | None = None,
    cache: str | None = None,
    study: str | None = None,
) -> list[str]:
    """Send the search of the file ``space`` to the cluster whose dashboard is at ``address``, such as http://HEAD:8265.

    ``data``, ``out``, ``external`` and ``cache`` are as the cluster's nodes see them: whole paths, or but for the cache URLs
    such as s3://bucket/folder; ``study`` is the URL of a database for the ledger. The job runs this very installation's code,
    so the nodes need its dependencies only. Returns the lines that tell how to go on from there. Raises UserError if the file
    is at fault, the cluster cannot be reached or refuses the job, or a job is at work on ``out`` already.
    """
    search, text = read_search(space)
    places = {"--data": data, "--out": tidy(out), "--external": external, "--cache": cache}
    given = [word for option, place in places.items() if place is not None for word in (option, check_place(option, place))]
    if study is not None:
        given += ["--study", check_url(study)]
    dashboard = Dashboard(address)
    _check_idle(dashboard, tidy(out))
    command = ["run", "search.yaml", *given, *RAY]
    return _send(dashboard, command, search=search.name, out=tidy(out), cache=cache, text=text)


def resume(dashboard: Dashboard, target: Target, *, data: str | None = None, cache: str | None = None) -> list[str]:
    """Send a job that goes on with the search of ``target``; ``data`` is its dataset's new place, if that was moved.

    ``cache`` is the job's before, if None. Returns the lines that tell how to go on from there. Raises UserError while a
    job is at work on it.
    """
    _check_idle(dashboard, target.out)
    before = target.job
    cache = cache or (before.cache if before else None)
    places = {"--data": data, "--cache": cache}
    given = [word for option, place in places.items() if place is not None for word in (option, check_place(option, place))]
    name = before.search if before else target.out.rsplit("/", 1)[-1]
    return _send(dashboard, ["resume", target.out, *given, *RAY], search=name, out=target.out, cache=cache)


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


def _check_idle(dashboard: Dashboard, out: str) -> None:
    for job in our_jobs(dashboard):
        if job.out == out and not job.over:
            raise UserError(
                f"{dashboard.address}: the job {job.name} is {job.state} on {out} already; watch it with `hpa-search status "
                f"{job.name} --address {dashboard.address}`, or stop it first"
            )


def _send(
    dashboard: Dashboard, command: list[str], *, search: str, out: str, cache: str | None, text: str | None = None
) -> list[str]:
    name = f"{search}-{uuid.uuid4().hex[:8]}"
    metadata = {SEARCH: search, OUT: out} | ({CACHE: cache} if cache else {})
    with packed(text) as environment:
        dashboard.send(name, shlex.join(["python", "-m", "hpa_search.cli", *command]), environment, metadata)
    return [f"Submitted as {name}.", *next_steps(name, dashboard.address)]
