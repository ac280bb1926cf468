"""Predictions: label images with a bundle, and combine what models made anywhere say."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from hpa_search.cli.names import Named, rules, selections
from hpa_search.cli.options import CACHE, FOLDER, PLACE, console_here, is_standard_output, told
from hpa_search.cli.output import unwatched
from hpa_search.errors import UserError


@click.command()
@click.option("--predictions", type=FOLDER, required=True, help="The models' predictions, .npz or .csv.")
@click.option("--out", type=FOLDER, required=True, help="A folder for the ensemble; with --apply, a CSV file for the labels.")
@click.option("--logits", is_flag=True, help="The values are logits, not probabilities.")
@click.option(
    "--ensemble",
    "selection",
    cls=Named,
    names=selections,
    default=None,
    help="How models are chosen: {names}.  [default: {first}]",
)
@click.option(
    "--thresholds",
    cls=Named,
    names=rules,
    default=None,
    help="How labels are decided: {names}.  [default: {first}]",
)
@click.option("--max-members", type=click.IntRange(1, 50), default=None, help="The most models that take part.  [default: 5]")
@click.option("--apply", "folder", type=FOLDER, default=None, help="Label rows with the ensemble in this folder.")
@click.option("--probabilities", type=FOLDER, default=None, help="With --apply: an .npz or .csv for the probabilities.")
@unwatched
@told
def ensemble(predictions: Path, out: Path, logits: bool, folder: Path | None, probabilities: Path | None, **how: Any) -> None:
    """Combine predictions that were made anywhere, and say honestly how good the result is.

    \b
    .npz: arrays `ids` (n) and `labels` (n x 28 of 0 and 1), `groups` (n) where
          rows belong together, and one n x 28 array for each model, by its name.
    .csv: columns Id, Target ("16 0"), Group where rows belong together, and
          NAME_0 ... NAME_27 for each model.

    The values are of rows that the models were not trained on. Rows that are labelled with --apply need no labels.
    """
    given = {name: value for name, value in how.items() if value is not None}
    if folder is None:
        if probabilities is not None:
            raise UserError("--probabilities: goes with --apply; classes.csv and members.csv tell of the ensemble itself")
        _make_ensemble(predictions, out, logits, given)
        return
    if given:
        options = ", ".join(f"--{'ensemble' if name == 'selection' else name.replace('_', '-')}" for name in given)
        raise UserError(f"{options}: was decided when the ensemble was made; leave it out beside --apply")
    from hpa_search.predictions.apply import apply_ensemble

    applied = apply_ensemble(folder, predictions, out, logits=logits, probabilities=probabilities)
    filled = f" {applied.filled} had no label above its threshold and got their likeliest." if applied.filled else ""
    click.echo(f"{applied.rows} rows labelled in {out}.{filled}", err=is_standard_output(out, probabilities))


def _make_ensemble(predictions: Path, out: Path, logits: bool, how: dict[str, Any]) -> None:
    from hpa_search.data.progress import progress
    from hpa_search.predictions.ensemble import make_ensemble
    from hpa_search.predictions.tables import last_lines

    console = console_here()
    say = partial(console.print, highlight=False, markup=False)
    renamed = {"ensemble" if name == "selection" else name: value for name, value in how.items()}
    with progress(console, "Choosing on all rows and in folds") as tell:
        result = make_ensemble(predictions, out, logits=logits, say=say, tell=tell, **renamed)
    for line in last_lines(out, result):
        click.echo(line)


@click.command()
@click.argument("bundle", type=PLACE)
@click.argument("images", type=PLACE)
@click.option("--out", type=PLACE, default="submission.csv", show_default=True)
@click.option("--list", "listed", type=FOLDER, default=None, help="The Ids that are wanted: one a line, or CSV with a column Id.")
@click.option("--probabilities", type=PLACE, default=None, help="An .npz or .csv file for the calibrated probabilities.")
@CACHE
@unwatched
@told
def predict(bundle: Any, images: Any, out: Any, listed: Path | None, probabilities: Any, cache: Path) -> None:
    """Label IMAGES, a folder of <Id>_<colour>.png or a dataset (its test/, else its train/), with BUNDLE."""
    from hpa_search.bundle.labelling import predict_folder

    console = console_here(aside=is_standard_output(out, probabilities))
    predict_folder(bundle, images, out, cache, console=console, listed=listed, probabilities=probabilities)
