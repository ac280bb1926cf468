"""Searching and what follows: run, finish, compare, tensorboard."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from hpa_search.cli.options import CACHE, FOLDER, PLACE, STUDY, console_here, told
from hpa_search.cli.output import unwatched
from hpa_search.cli.searching import leave
from hpa_search.errors import UserError


@click.command()
@click.argument("space", type=FOLDER)
@click.option("--data", "folder", type=PLACE, required=True, help="The dataset, in the Kaggle layout.")
@click.option(
    "--out", type=PLACE, required=True, help="Where everything about the search goes; one that is there is gone on with."
)
@click.option("--external", type=PLACE, default=None, help="Images from elsewhere, such as HPAv18, to be trained on too.")
@STUDY
@click.option("--ray", "address", default=None, help="A Ray to join, such as auto or HOST:6379; without it one is started here.")
@CACHE
@unwatched
@told
def run(space: Path, folder: Any, out: Any, external: Any, study: str | None, address: str | None, cache: Path) -> None:
    """Search the space of the file SPACE, finish, and export the winner."""
    from hpa_search.control import settle_environment

    settle_environment(address, click.echo)
    from hpa_search.run import run as run_all

    outcome = run_all(space, folder, out, cache, external=external, study=study, ray_address=address, console=console_here())
    leave(outcome)


@click.command()
@click.argument("out", type=PLACE)
@click.option("--data", "folder", type=PLACE, default=None, help="Where the dataset is now, if it was moved.")
@click.option("--also", type=PLACE, multiple=True, help="Another search on the same split, whose trials may become members too.")
@click.option("--max-members", type=int, default=None, help="At most so many members.  [default: final.max_members]")
@click.option("--ensemble", default=None, help="How members are chosen: greedy, uniform, single.  [default: final.ensemble]")
@click.option("--thresholds", default=None, help="plug_in, proportion, exact, global, half, grid.  [default: final.thresholds]")
@click.option("--tta", default=None, help="Judge by eight views of an image: none, mean, max.  [default: final.tta]")
@click.option("--onnx/--no-onnx", default=None, help="Write the ensemble as an ONNX graph too.  [default: final.onnx]")
@click.option("--folds", is_flag=True, help="Train the chosen members on the other folds too (a search with split.folds).")
@click.option("--ray", "address", default=None, help="With --folds: a Ray to join; without it one is started here.")
@CACHE
@unwatched
@told
def finish(out: Any, folder: Any, also: tuple[Any, ...], folds: bool, address: str | None, cache: Path, **changes: Any) -> None:
    """Choose the ensemble and write the bundle from what is in OUT now."""
    if folds:
        from hpa_search.control import settle_environment

        settle_environment(address, click.echo)
    from hpa_search.finish.folds import train_folds
    from hpa_search.finish.stage import finish as finish_search
    from hpa_search.finish.summary import summary

    if address is not None and not folds:
        raise UserError("--ray: only --folds trains anything; leave it out, or give --folds too")
    train = partial(train_folds, cache=cache, ray_address=address, console=console_here()) if folds else None
    given = {name: value for name, value in changes.items() if value is not None}
    result = finish_search(out, cache, data=folder, also=also, changes=given, train_folds=train, say=click.echo)
    if result is None:
        click.echo(f"Stopped; what is trained is in {out / 'folds'}. To go on, give the same command again.")
        sys.exit(130)
    for line in summary(out, result):
        click.echo(line)


@click.command()
@click.argument("out", type=PLACE)
@click.option("--by", multiple=True, help="A dimension to compare by; again for more (default: all but replicate).")
@click.option("--data", "folder", type=PLACE, default=None, help="Where the dataset is now, if it was moved.")
@told
def compare(out: Any, by: tuple[str, ...], folder: Any) -> None:
    """Compare the settings of the study in OUT: macro AP on the validation rows, with paired bootstrap intervals."""
    from hpa_search.finish.compare import compare as compare_study
    from hpa_search.finish.compare import table

    for line in table(compare_study(out, data=folder, by=by)):
        click.echo(line)


@click.command()
@click.argument("out", type=PLACE)
@click.option("--port", type=click.IntRange(1, 65535), default=6006, show_default=True)
@CACHE
@told
def tensorboard(out: Any, port: int, cache: Path) -> None:
    """Serve TensorBoard on the trials of the search in OUT; one in an object store is looked at anew every few seconds."""
    from hpa_search.search.tensorboard import serve

    sys.exit(serve(out, cache, port, say=click.echo))
