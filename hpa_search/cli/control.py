"""Control an existing search, here or on a cluster: status, pause, resume, stop, extend."""

import json
import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hpa_search.cli.options import CACHE, GIVEN, console_here, told
from hpa_search.cli.output import unwatched
from hpa_search.cli.searching import leave
from hpa_search.cli.target import ADDRESS, TARGET, search_at
from hpa_search.errors import UserError
from hpa_search.handle import SearchHandle, Snapshot
from hpa_search.ledger.times import in_words
from hpa_search.space.limits import MOST_EPOCHS, MOST_HOURS, MOST_TRIALS

WAIT = click.option("--wait", is_flag=True, help="Return only when the driver has ended.")
COMING = click.option("--coming", is_flag=True, hidden=True, help="A driver is starting: note nothing in its place.")


@click.command()
@TARGET
@ADDRESS
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--watch", is_flag=True, help="Print again every few seconds, until no driver is at work.")
@told
def status(target: str, address: str | None, as_json: bool, watch: bool) -> None:
    """Show the state of the search TARGET and of each trial."""
    with search_at(target, address) as search:
        if watch and not as_json:
            _watch(search)
            return
        found = search.status()
        click.echo(json.dumps(found.facts, indent=2) if as_json else "\n".join(_lines(found)))


@click.command()
@TARGET
@ADDRESS
@WAIT
@COMING
@told
def pause(target: str, address: str | None, wait: bool, coming: bool) -> None:
    """End the driver of the search TARGET after its running epochs, and free its GPUs."""
    with search_at(target, address, is_starting=coming) as search:
        search.pause(wait=wait)


@click.command()
@TARGET
@ADDRESS
@WAIT
@COMING
@told
def stop(target: str, address: str | None, wait: bool, coming: bool) -> None:
    """End the driver of the search TARGET now; a resumed search trains the running epochs again.

    With --address it always waits for the job's end; Ray's signals end a job that does not stop.
    """
    with search_at(target, address, is_starting=coming) as search:
        search.stop(wait=wait)


@click.command()
@TARGET
@ADDRESS
@click.option("--trials", type=click.IntRange(1, MOST_TRIALS), default=None, help="Number of trials to add.")
@click.option("--hours", type=click.FloatRange(0, MOST_HOURS, min_open=True), default=None, help="Number of hours to add.")
@click.option("--epochs", type=click.IntRange(1, MOST_EPOCHS), default=None, help="Number of epochs to add, over all trials.")
@told
def extend(target: str, address: str | None, trials: int | None, hours: float | None, epochs: int | None) -> None:
    """Give the search TARGET more trials, hours or epochs, in whatever state it is."""
    if trials is None and hours is None and epochs is None:
        raise UserError("extend: give --trials, --hours or --epochs: how much more of it")
    with search_at(target, address) as search:
        search.extend(trials=trials, hours=hours, epochs=epochs)


@click.command()
@TARGET
@ADDRESS
@click.option("--data", "folder", type=GIVEN, default=None, help="New place of the dataset, if it was moved.")
@click.option("--external", type=GIVEN, default=None, help="New place of the external images, if they were moved.")
@click.option("--ray", default=None, help="A Ray to join, such as auto or HOST:6379.  [default: a Ray on this machine]")
@CACHE
@unwatched
@told
def resume(target: str, address: str | None, folder: str | None, external: str | None, ray: str | None, cache: Path) -> None:
    """Resume the search TARGET on its own data; with --address as a new job."""
    # The option's default is a folder of this machine, and a cluster's nodes have their own.
    given = click.get_current_context().get_parameter_source("cache") is ParameterSource.COMMANDLINE
    with search_at(target, address) as search:
        outcome = search.resume(data=folder, external=external, cache=str(cache) if given else None, ray=ray)
    leave(outcome)


def _watch(search: SearchHandle) -> None:
    from rich.live import Live
    from rich.text import Text

    console = console_here()
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            found = search.status()
            live.update(Text("\n".join(_lines(found)[: max(console.height - 1, 2)])))
            if not found.is_active:
                return
            time.sleep(search.poll_seconds)


def _lines(found: Snapshot) -> list[str]:
    """Return the lines for people: job, state, and one line for each trial."""
    job = [found.job] if found.job else []
    return [*job, found.facts["reason"]] if "reason" in found.facts else [*job, *_table(found.facts)]


def _table(facts: dict[str, Any]) -> list[str]:
    lines = [f"{facts['state']}, {facts['seconds']:.0f} s spent, {len(facts['trials'])} trials"]
    if told := in_words(facts.get("slot_seconds", {})):
        lines.append(f"{told}.")
    for trial in facts["trials"]:
        best = max((report["objective"] for report in trial["reports"]), default=None)
        shown = "" if best is None else f"best {best:.4f}"
        lines.append(f"{trial['number']:>5}  {trial['state']:<9} {trial['epochs']:>3} epochs  {shown:<12} {trial['ended'] or ''}")
    return lines
