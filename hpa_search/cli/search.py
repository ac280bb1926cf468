"""Run a search and use its results: plan, run, finish, compare, report, tensorboard."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from hpa_search.cli.names import Named, rules, selections, test_time
from hpa_search.cli.options import CACHE, FOLDER, PLACE, STUDY, console_here, told
from hpa_search.cli.output import unwatched
from hpa_search.cli.searching import leave


@click.command()
@click.argument("space", type=FOLDER)
@click.option("--data", "folder", type=PLACE, required=True, help="The dataset in the Kaggle layout: a folder or a URL.")
@click.option("--out", type=PLACE, required=True, help="Folder or URL that the search writes to; an existing search is resumed.")
@click.option("--external", type=PLACE, default=None, help="More training images, such as HPAv18.  [default: none]")
@STUDY
@click.option(
    "--ray", "address", default=None, help="A Ray to join, such as auto or HOST:6379.  [default: a Ray on this machine]"
)
@CACHE
@unwatched
@told
def run(space: Path, folder: Any, out: Any, external: Any, study: str | None, address: str | None, cache: Path) -> None:
    """Search the space of the file SPACE, choose an ensemble and write its bundle."""
    from hpa_search.control import settle_environment

    settle_environment(address, click.echo)
    from hpa_search.run import run as run_all

    outcome = run_all(space, folder, out, cache, external=external, study=study, ray_address=address, console=console_here())
    leave(outcome)


@click.command()
@click.argument("space", type=FOLDER)
@click.option("--data", "folder", type=PLACE, required=True, help="The dataset in the Kaggle layout: a folder or a URL.")
@click.option("--out", type=FOLDER, default=Path(), help="Folder that the search will write to.  [default: the current folder]")
@click.option("--slots", type=click.IntRange(1, 1000), default=None, help="Number of slots.  [default: what this machine holds]")
@CACHE
@told
def plan(space: Path, folder: Any, out: Path, slots: int | None, cache: Path) -> None:
    """Say what the search of the file SPACE will do: trials, epochs, hours, disk. It trains a few steps on this machine."""
    from hpa_search.plan.make import plan as make_plan

    make_plan(space, folder, cache, out=out, slots=slots, console=console_here(aside=True), say=click.echo)


@click.command()
@click.argument("out", type=PLACE)
@click.option("--data", "folder", type=PLACE, default=None, help="New place of the dataset, if it was moved.")
@click.option(
    "--also",
    type=PLACE,
    multiple=True,
    help="OUT of another search on the same split; its trials may become members too. Repeatable.",
)
@click.option("--max-members", type=int, default=None, help="Largest number of members.  [default: final.max_members]")
@click.option(
    "--ensemble",
    cls=Named,
    names=selections,
    default=None,
    help="How to choose members: {names}.  [default: final.ensemble]",
)
@click.option(
    "--thresholds",
    cls=Named,
    names=rules,
    default=None,
    help="How to decide labels: {names}.  [default: final.thresholds]",
)
@click.option(
    "--tta",
    cls=Named,
    names=test_time,
    default=None,
    help="How to merge eight views of an image: {names}; none takes one view.  [default: final.tta]",
)
@click.option("--onnx/--no-onnx", default=None, help="Also write the ensemble as an ONNX graph.  [default: final.onnx]")
@click.option("--folds", is_flag=True, help="Also train the chosen members on the other folds; needs a search with split.folds.")
@click.option(
    "--ray",
    "address",
    default=None,
    help="A Ray to join, such as auto or HOST:6379: its slots predict, and train with --folds.  [default: this machine]",
)
@CACHE
@unwatched
@told
def finish(out: Any, folder: Any, also: tuple[Any, ...], folds: bool, address: str | None, cache: Path, **changes: Any) -> None:
    """Choose the ensemble from the present trials in OUT, and write its bundle."""
    if folds or address is not None:
        from hpa_search.control import settle_environment

        settle_environment(address, click.echo)
    from hpa_search.finish.folds import train_folds
    from hpa_search.finish.stage import finish as finish_search
    from hpa_search.finish.summary import summary

    train = partial(train_folds, cache=cache, ray_address=address, console=console_here()) if folds else None
    given = {name: value for name, value in changes.items() if value is not None}
    result = finish_search(
        out, cache, data=folder, also=also, changes=given, train_folds=train, ray_address=address, say=click.echo
    )
    if result is None:
        click.echo(f"Stopped; the folds trained so far are in {out / 'folds'}. To resume, give the same command again.")
        sys.exit(130)
    for line in summary(out, result):
        click.echo(line)


@click.command()
@click.argument("out", type=PLACE)
@click.option("--by", multiple=True, help="Dimension to compare by. Repeatable.  [default: all but replicate]")
@click.option("--data", "folder", type=PLACE, default=None, help="New place of the dataset, if it was moved.")
@told
def compare(out: Any, by: tuple[str, ...], folder: Any) -> None:
    """Compare the settings of the study in OUT by macro AP, with paired bootstrap intervals on the validation rows."""
    from hpa_search.finish.compare import compare as compare_study
    from hpa_search.finish.compare import table

    for line in table(compare_study(out, data=folder, by=by)):
        click.echo(line)


@click.command()
@click.argument("out", type=PLACE)
@click.option("--data", "folder", type=PLACE, default=None, help="New place of the dataset, if it was moved.")
@click.option("--markdown", is_flag=True, help="Write README.md and its pictures, for a repository, in place of one HTML file.")
@click.option("--to", type=FOLDER, default=None, help="File to write, or with --markdown folder.  [default: in OUT]")
@CACHE
@told
def report(out: Any, folder: Any, markdown: bool, to: Path | None, cache: Path) -> None:
    """Write the report on the search in OUT: its result, its trials, its classes, its mistakes and its cost."""
    from hpa_search.report.write import write_report

    click.echo(write_report(out, cache, data=folder, markdown=markdown, to=to))


@click.command()
@click.argument("out", type=PLACE)
@click.option("--port", type=click.IntRange(1, 65535), default=6006, show_default=True, help="TCP port to serve on.")
@CACHE
@told
def tensorboard(out: Any, port: int, cache: Path) -> None:
    """Serve TensorBoard on the trials of the search in OUT. An OUT in an object store is read again every few seconds."""
    from hpa_search.board.serve import serve

    sys.exit(serve(out, cache, port, say=click.echo))
