"""Label images with a bundle, and combine predictions of models made anywhere."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from hpa_search.cli.names import Named, rules, selections
from hpa_search.cli.options import CACHE, FOLDER, PLACE, console_here, is_standard_output, told
from hpa_search.cli.output import unwatched
from hpa_search.errors import UserError


@click.command()
@click.option("--predictions", type=FOLDER, required=True, help="File with the predictions of the models: .npz or .csv.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the ensemble; with --apply, CSV file for the labels.")
@click.option("--logits", is_flag=True, help="Read the values as logits, not as probabilities.")
@click.option(
    "--ensemble",
    "selection",
    cls=Named,
    names=selections,
    default=None,
    help="How to choose members: {names}.  [default: {first}]",
)
@click.option(
    "--thresholds",
    cls=Named,
    names=rules,
    default=None,
    help="How to decide labels: {names}.  [default: {first}]",
)
@click.option("--max-members", type=click.IntRange(1, 50), default=None, help="Largest number of members.  [default: 5]")
@click.option(
    "--apply",
    "folder",
    type=FOLDER,
    default=None,
    help="Folder of an ensemble to label the rows with.  [default: make a new ensemble]",
)
@click.option(
    "--probabilities", type=FOLDER, default=None, help="With --apply: file for the probabilities, .npz or .csv.  [default: none]"
)
@unwatched
@told
def ensemble(predictions: Path, out: Path, logits: bool, folder: Path | None, probabilities: Path | None, **how: Any) -> None:
    """Combine predictions of models made anywhere, and estimate the ensemble's macro F1 honestly.

    \b
    .npz: arrays `ids` (n) and `labels` (n x 28 of 0 and 1); `groups` (n) if some
          rows belong together. One n x 28 array for each model, by its name.
    .csv: columns Id and Target ("16 0"); Group if some rows belong together.
          Columns NAME_0 to NAME_27 for each model.

    No model may have been trained on these rows. Rows for --apply need no labels.
    """
    given = {name: value for name, value in how.items() if value is not None}
    if folder is None:
        if probabilities is not None:
            raise UserError("--probabilities: works only with --apply; classes.csv and members.csv describe the ensemble itself")
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
@click.option("--out", type=PLACE, default="submission.csv", show_default=True, help="CSV file for the labels.")
@click.option(
    "--list",
    "listed",
    type=FOLDER,
    default=None,
    help="File with the Ids to label: one a line, or CSV with a column Id.  [default: all images]",
)
@click.option(
    "--probabilities", type=PLACE, default=None, help="File for the calibrated probabilities, .npz or .csv.  [default: none]"
)
@CACHE
@unwatched
@told
def predict(bundle: Any, images: Any, out: Any, listed: Path | None, probabilities: Any, cache: Path) -> None:
    """Label IMAGES with BUNDLE. IMAGES is a folder of <Id>_<colour>.png, or a dataset: its test/, or else its train/."""
    from hpa_search.bundle.labelling import predict_folder

    console = console_here(aside=is_standard_output(out, probabilities))
    predict_folder(bundle, images, out, cache, console=console, listed=listed, probabilities=probabilities)
