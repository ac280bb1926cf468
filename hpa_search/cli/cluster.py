"""Searches on a Ray cluster: submit, list, logs."""

import json
import sys
import time
from pathlib import Path

import click

from hpa_search.cli.options import FOLDER, GIVEN, STUDY, told

CLUSTER = click.option(
    "--address",
    required=True,
    envvar="RAY_API_SERVER_ADDRESS",
    help="The dashboard of the cluster, such as http://HEAD:8265.  [default: $RAY_API_SERVER_ADDRESS]",
)


@click.command()
@click.argument("space", type=FOLDER)
@CLUSTER
@click.option("--data", "folder", type=GIVEN, required=True, help="The dataset as the nodes see it: an absolute path or a URL.")
@click.option("--out", type=GIVEN, required=True, help="Where the search writes, as the nodes see it: an absolute path or a URL.")
@click.option(
    "--external", type=GIVEN, default=None, help="More training images, such as HPAv18, as the nodes see them.  [default: none]"
)
@STUDY
@click.option(
    "--cache",
    type=GIVEN,
    default=None,
    help="Folder of each node for decoded images.  [default: $HPA_SEARCH_CACHE or ~/.cache/hpa-search there]",
)
@told
def submit(space: Path, address: str, folder: str, out: str, external: str | None, study: str | None, cache: str | None) -> None:
    """Run the search of the file SPACE as a job on a Ray cluster."""
    from hpa_search.cluster.submit import submit as submit_job

    for line in submit_job(space, address, folder, out, external=external, cache=cache, study=study):
        click.echo(line)


@click.command("list")
@CLUSTER
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@told
def list_jobs(address: str, as_json: bool) -> None:
    """List the searches that were submitted to a Ray cluster, the newest first."""
    from hpa_search.cluster.dashboard import Dashboard
    from hpa_search.cluster.jobs import our_jobs
    from hpa_search.cluster.listing import for_programs, table

    jobs, now = our_jobs(Dashboard(address)), time.time()
    click.echo(json.dumps(for_programs(jobs, now), indent=2) if as_json else "\n".join(table(jobs, now)))


@click.command()
@click.argument("job", type=GIVEN)
@CLUSTER
@click.option("--follow", is_flag=True, help="Print until the job ends. Exit code: 0 succeeded, 130 stopped, 1 failed.")
@told
def logs(job: str, address: str, follow: bool) -> None:
    """Print the log of JOB, which is a job's name or an OUT on the cluster."""
    from hpa_search.cluster.dashboard import Dashboard
    from hpa_search.cluster.follow import follow as follow_job
    from hpa_search.cluster.jobs import find_job

    dashboard = Dashboard(address)
    found = find_job(dashboard, job)
    if not follow:
        click.echo(dashboard.log(found.name), nl=False)
        return
    ended = follow_job(dashboard, found, write=_write, say=_say)
    # Ray appends the end of the log to its message; it has just been printed.
    _say(f"{ended.name}: {ended.state}. {ended.message.partition(', last available logs')[0]}".rstrip())
    sys.exit({"SUCCEEDED": 0, "STOPPED": 130}.get(ended.state, 1))


def _write(text: str) -> None:
    click.echo(text, nl=False)


def _say(text: str) -> None:
    click.echo(text, err=True)
