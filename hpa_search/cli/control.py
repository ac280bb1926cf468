"""A search from outside, here or on a cluster: status, pause, resume, stop, extend."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hpa_search.cli.options import CACHE, GIVEN, console_here, told
from hpa_search.cli.output import unwatched
from hpa_search.cli.searching import leave, prepare
from hpa_search.errors import UserError

if TYPE_CHECKING:
    from hpa_search.storage.opened import Opened

WAIT = click.option("--wait", is_flag=True, help="Return when the driver has ended.")
COMING = click.option("--coming", is_flag=True, hidden=True, help="A driver is at work, or coming up: note nothing in its place.")
TARGET = click.argument("target", type=GIVEN)
ADDRESS = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    default=None,
    help="A Ray cluster's dashboard, such as http://HEAD:8265 (default: $RAY_API_SERVER_ADDRESS); TARGET is then a job's name, or "
    "an OUT as the cluster sees it. Without it TARGET is an OUT seen from here.",
)


@click.command()
@TARGET
@ADDRESS
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--watch", is_flag=True, help="Again and again, until nothing runs.")
@told
def status(target: str, address: str | None, as_json: bool, watch: bool) -> None:
    """Show the state of the search TARGET and of each trial."""
    with ExitStack() as stack:
        look = _look_there(target, address) if address else _look_here(stack.enter_context(_opened(target)).folder)
        if watch and not as_json:
            _watch(look, pause=5 if address else 2)
            return
        lines, found = look()
        click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines))


@click.command()
@TARGET
@ADDRESS
@WAIT
@COMING
@told
def pause(target: str, address: str | None, wait: bool, coming: bool) -> None:
    """End the driver of the search TARGET when its running epochs are done, which frees its GPUs."""
    if address:
        from hpa_search.cluster.control import pause as pause_there
        from hpa_search.cluster.dashboard import Dashboard

        pause_there(Dashboard(address), target, wait=wait, say=click.echo)
    else:
        _rest(target, "pause", wait, coming)


@click.command()
@TARGET
@ADDRESS
@WAIT
@COMING
@told
def stop(target: str, address: str | None, wait: bool, coming: bool) -> None:
    """End the driver of the search TARGET now; running epochs are trained again when it goes on.

    With --address this always waits for the job's end, and has Ray end a job that does not.
    """
    if address:
        from hpa_search.cluster.control import stop as stop_there
        from hpa_search.cluster.dashboard import Dashboard

        stop_there(Dashboard(address), target, say=click.echo)
    else:
        _rest(target, "stop", wait, coming)


def _rest(target: str, wish: Any, wait: bool, coming: bool) -> None:
    from hpa_search.control import rest
    from hpa_search.engine.commands import Command

    with _opened(target) as work:
        rest(work, Command(wish=wish), wait=wait, say=click.echo, coming=coming)


@click.command()
@TARGET
@ADDRESS
@click.option("--trials", type=click.IntRange(1), default=None, help="So many trials more.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=None, help="So many hours more.")
@click.option("--epochs", type=click.IntRange(1), default=None, help="So many epochs more, of all trials together.")
@told
def extend(target: str, address: str | None, trials: int | None, hours: float | None, epochs: int | None) -> None:
    """Give the search TARGET more trials, hours or epochs, whether it runs, rests or is finished."""
    given = {"--trials": trials, "--hours": hours, "--epochs": epochs}
    if all(value is None for value in given.values()):
        raise UserError("extend: give --trials, --hours or --epochs: how much more of it")
    if address:
        from hpa_search.cluster.control import extend as extend_there
        from hpa_search.cluster.dashboard import Dashboard

        options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
        extend_there(Dashboard(address), target, options, say=click.echo)
        return
    from hpa_search.control import extend as extend_here
    from hpa_search.engine.commands import Command

    with _opened(target) as work:
        extend_here(work, Command(wish="extend", trials=trials or 0, hours=hours or 0.0, epochs=epochs or 0), say=click.echo)


@click.command()
@TARGET
@ADDRESS
@click.option("--data", "folder", type=GIVEN, default=None, help="Where the dataset is now, if it was moved.")
@click.option("--external", type=GIVEN, default=None, help="Where the external images are now, if they were moved.")
@click.option("--ray", default=None, help="A Ray to join, such as auto or HOST:6379; without it one is started here.")
@CACHE
@unwatched
@told
def resume(target: str, address: str | None, folder: str | None, external: str | None, ray: str | None, cache: Path) -> None:
    """Go on with the search TARGET, with the data it was started with; with --address as a new job."""
    if address:
        _resume_there(target, address, folder, external, ray, cache)
        return
    prepare(ray)
    from hpa_search.control import remembered
    from hpa_search.run import run
    from hpa_search.storage.place import Place

    with _opened(target, cache) as work:
        given = [None if place is None else Place.of(place).plain for place in (folder, external)]
        space, data, more = remembered(work, *given)
        out = work.place.plain
        outcome = run(space, data, out, cache, external=more, ray_address=ray, console=console_here())
    leave(outcome)


def _resume_there(target: str, address: str, folder: str | None, external: str | None, ray: str | None, cache: Path) -> None:
    from hpa_search.cluster.control import resumable
    from hpa_search.cluster.dashboard import Dashboard
    from hpa_search.cluster.sending import resume as resume_there

    if ray is not None:
        raise UserError("resume: --ray joins a Ray from here, --address sends a job to a cluster; give one of them")
    # The default is a folder of this machine, and the nodes have their own.
    given = click.get_current_context().get_parameter_source("cache") is ParameterSource.COMMANDLINE
    dashboard = Dashboard(address)
    found = resumable(dashboard, target)
    for line in resume_there(dashboard, found, data=folder, external=external, cache=str(cache) if given else None):
        click.echo(line)


@contextmanager
def _opened(target: str, cache: Path | None = None) -> Iterator["Opened"]:
    """Open an OUT as far as it takes to ask something of its search."""
    from hpa_search.layout import BEGUN
    from hpa_search.storage.data_cache import default_cache
    from hpa_search.storage.opened import opened
    from hpa_search.storage.place import Place

    with opened(Place.of(target), cache or default_cache(), *BEGUN) as work:
        yield work


Look = Callable[[], tuple[list[str], dict[str, Any]]]
"""Returns the lines to be shown, and what JSON says."""


def _look_here(out: Path) -> Look:
    from hpa_search.ledger.status import read_status

    def look() -> tuple[list[str], dict[str, Any]]:
        found = read_status(out)
        return _lines(found), found

    return look


def _look_there(target: str, address: str) -> Look:
    from hpa_search.cluster.control import read_status
    from hpa_search.cluster.dashboard import Dashboard
    from hpa_search.cluster.jobs import is_away
    from hpa_search.storage.patience import patiently

    dashboard = Dashboard(address)

    def look() -> tuple[list[str], dict[str, Any]]:
        tell = partial(click.echo, err=True)
        job, found = patiently(lambda: read_status(dashboard, target), dashboard.address, transient=is_away, tell=tell)
        head = f"{job.name}: {job.state}" if job else f"no job of {target} is known"
        rest = [found["reason"]] if "reason" in found else _lines(found)
        return [head, *rest], found

    return look


def _watch(look: Look, pause: float) -> None:
    from rich.live import Live
    from rich.text import Text

    console = console_here()
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            lines, found = look()
            live.update(Text("\n".join(lines[: max(console.height - 1, 2)])))
            if found["state"] not in ("running", "preparing"):
                return
            time.sleep(pause)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['state']}, {found['seconds']:.0f} s spent, {len(found['trials'])} trials"]
    for trial in found["trials"]:
        best = max((report["objective"] for report in trial["reports"]), default=None)
        shown = "" if best is None else f"best {best:.4f}"
        lines.append(f"{trial['number']:>5}  {trial['state']:<9} {trial['epochs']:>3} epochs  {shown:<12} {trial['ended'] or ''}")
    return lines
