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
    help="The cluster's dashboard, such as http://HEAD:8265 (default: $RAY_API_SERVER_ADDRESS).",
)


@click.command()
@click.argument("space", type=FOLDER)
@CLUSTER
@click.option(
    "--data", "folder", type=GIVEN, required=True, help="The dataset, as the cluster's nodes see it: a whole path or a URL."
)
@click.option("--out", type=GIVEN, required=True, help="Where everything about the search goes, as the cluster's nodes see it.")
@click.option(
    "--external", type=GIVEN, default=None, help="Images from elsewhere that are trained on too, as the cluster's nodes see them."
)
@STUDY
@click.option("--cache", type=GIVEN, default=None, help="Where the nodes keep decoded images (default: as for run).")
@told
def submit(space: Path, address: str, folder: str, out: str, external: str | None, study: str | None, cache: str | None) -> None:
    """Run the search of the file SPACE as a job on a Ray cluster."""
    from hpa_search.cluster.submit import submit as submit_job

    for line in submit_job(space, address, folder, out, external=external, cache=cache, study=study):
        click.echo(line)


@click.command("list")
@CLUSTER
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@told
def list_jobs(address: str, as_json: bool) -> None:
    """List the searches that were sent to a Ray cluster, the newest first."""
    from hpa_search.cluster.dashboard import Dashboard
    from hpa_search.cluster.jobs import our_jobs
    from hpa_search.cluster.listing import for_programs, table

    jobs, now = our_jobs(Dashboard(address)), time.time()
    click.echo(json.dumps(for_programs(jobs, now), indent=2) if as_json else "\n".join(table(jobs, now)))


@click.command()
@click.argument("job", type=GIVEN)
@CLUSTER
@click.option("--follow", is_flag=True, help="Until the job has ended; exit code 0 if it succeeded, 130 if stopped, 1 if failed.")
@told
def logs(job: str, address: str, follow: bool) -> None:
    """Show what JOB, a job's name or the OUT of a search on the cluster, has written."""
    from hpa_search.cluster.dashboard import Dashboard
    from hpa_search.cluster.follow import follow as follow_job
    from hpa_search.cluster.jobs import find_job

    dashboard = Dashboard(address)
    found = find_job(dashboard, job)
    if not follow:
        click.echo(dashboard.log(found.name), nl=False)
        return
    ended = follow_job(dashboard, found, write=_write, say=_say)
    _say(f"{ended.name}: {ended.state}. {ended.message.partition(', last available logs')[0]}".rstrip())
    sys.exit({"SUCCEEDED": 0, "STOPPED": 130}.get(ended.state, 1))


def _write(text: str) -> None:
    click.echo(text, nl=False)


def _say(text: str) -> None:
    click.echo(text, err=True)
