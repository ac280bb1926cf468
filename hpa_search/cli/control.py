"""A search from outside: status, pause, resume, stop, extend."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from hpa_search.cli.options import CACHE, FOLDER, console_here, told
from hpa_search.errors import UserError

WAIT = click.option("--wait", is_flag=True, help="Return when the driver has ended.")


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--watch", is_flag=True, help="Again and again, until nothing runs.")
@told
def status(out: Path, as_json: bool, watch: bool) -> None:
    """Show the state of the search in OUT and of each trial."""
    from hpa_search.search.status import read_status

    if watch and not as_json:
        _watch(out)
        return
    found = read_status(out)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))


@click.command()
@click.argument("out", type=FOLDER)
@WAIT
@told
def pause(out: Path, wait: bool) -> None:
    """End the driver of the search in OUT when its running epochs are done, which frees its GPUs."""
    _rest(out, "pause", wait)


@click.command()
@click.argument("out", type=FOLDER)
@WAIT
@told
def stop(out: Path, wait: bool) -> None:
    """End the driver of the search in OUT now; running epochs are trained again when it goes on."""
    _rest(out, "stop", wait)


def _rest(out: Path, wish: Any, wait: bool) -> None:
    from hpa_search.control import rest
    from hpa_search.search.commands import Command

    with opened(out, default_cache(), *BEGUN) as work:
        rest(work, Command(wish=wish), wait=wait, say=click.echo)


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--trials", type=click.IntRange(1), default=0, help="So many trials more.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=0.0, help="So many hours more.")
@click.option("--epochs", type=click.IntRange(1), default=0, help="So many epochs more, of all trials together.")
@told
def extend(out: Path, trials: int, hours: float, epochs: int) -> None:
    """Give the search in OUT more trials, hours or epochs, whether it runs, rests or is finished."""
    from hpa_search.control import extend as extend_search
    from hpa_search.search.commands import Command

    if not (trials or hours or epochs):
        raise UserError("extend: give --trials, --hours or --epochs: how much more of it")
    with opened(out, default_cache(), *BEGUN) as work:
        extend_search(work, Command(wish="extend", trials=trials, hours=hours, epochs=epochs), say=click.echo)


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--data", "folder", type=FOLDER, default=None, help="Where the dataset is now, if it was moved.")
@click.option("--ray", "address", default=None, help="A Ray to join, such as auto or HOST:6379; without it one is started here.")
@CACHE
@told
def resume(out: Path, folder: Path | None, address: str | None, cache: Path) -> None:
    """Go on with the search in OUT, with the data it was started with."""
    from hpa_search.control import remembered
    from hpa_search.run import run

    with opened(out, cache, *BEGUN) as work:
        space, data, external = remembered(work, folder)
        outcome = run(space, data, out, cache, external=external, ray_address=address, console=console_here())
    sys.exit(130 if outcome == "interrupted" else 0)


def _watch(out: Path) -> None:
    from rich.live import Live
    from rich.text import Text

    from hpa_search.search.status import read_status

    console = console_here()
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            found = read_status(out)
            live.update(Text("\n".join(_lines(found)[: max(console.height - 1, 2)])))
            if found["state"] != "running":
                return
            time.sleep(2)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['state']}, {found['seconds']:.0f} s spent, {len(found['trials'])} trials"]
    for trial in found["trials"]:
        best = max((report["objective"] for report in trial["reports"]), default=None)
        shown = "" if best is None else f"best {best:.4f}"
        lines.append(f"{trial['number']:>5}  {trial['state']:<9} {trial['epochs']:>3} epochs  {shown:<12} {trial['ended'] or ''}")
    return lines
