"""The command line: reads options and calls one function each. Heavy imports happen inside the commands."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from hpa_search import __version__
from hpa_search.errors import UserError

FOLDER = click.Path(path_type=Path)
CACHE = click.option(
    "--cache",
    type=FOLDER,
    default=lambda: Path(os.environ.get("HPA_SEARCH_CACHE", "~/.cache/hpa-search")).expanduser(),
    help="Where decoded images are kept, local to the machine (default: $HPA_SEARCH_CACHE or ~/.cache/hpa-search).",
)


class _Fault(click.ClickException):
    exit_code = 2


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show a UserError, or what the system refused, as one message and exit with code 2."""

    @wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except UserError as error:
            raise _Fault(str(error)) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise _Fault(f"{place}{error.strerror or error}; free the place or name another") from None

    return command


def _console() -> Console:
    return Console(soft_wrap=True)


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Hyperparameter search for multi-label microscopy image classification."""


@main.group()
def data() -> None:
    """Make and check datasets in the Kaggle layout."""


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--images", type=int, default=600, show_default=True, help="Training images.")
@click.option("--test-images", type=int, default=None, help="Test images (default: a fifth of the training images).")
@click.option("--size", type=int, default=128, show_default=True, help="Height and width in pixels.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--lift", type=int, default=0, show_default=True, help="At least so many positives of each class.")
@_told
def phantom(folder: Path, images: int, test_images: int | None, size: int, seed: int, lift: int) -> None:
    """Make a synthetic dataset in FOLDER. Results on phantoms say nothing about the real atlas."""
    from hpa_search.data.phantom import make_phantom
    from hpa_search.data.progress import progress

    with progress(_console(), "Drawing images") as tell:
        make_phantom(folder, images=images, size=size, seed=seed, lift=lift, test_images=test_images, progress=tell)
    click.echo(f"{images} images in {folder}. Next: hpa-search data check {folder}")


@data.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--sheet", type=FOLDER, default=Path("sheet.png"), show_default=True, help="Where to write the sheet of sample images."
)
@CACHE
@_told
def check(folder: Path, sheet: Path, cache: Path) -> None:
    """List every fault of the dataset in FOLDER; without any, count its labels and write a sheet of samples."""
    from hpa_search.data.check import check_dataset
    from hpa_search.data.progress import progress

    with progress(_console(), "Reading images") as tell:
        report = check_dataset(folder, sheet, cache, tell)
    if report.faults:
        raise _Fault(f"{folder} has {len(report.faults)} fault(s):\n" + "\n".join(report.faults))
    assert report.counts is not None
    click.echo(report.counts.to_string(index=False))
    click.echo(
        f"{report.images} images of {report.size} px, {report.test_images} test images; no fault found. Sheet: {report.sheet}"
    )


@main.command()
@click.argument("space", type=FOLDER)
@click.option("--data", "folder", type=FOLDER, required=True, help="The dataset, in the Kaggle layout.")
@click.option(
    "--out", type=FOLDER, required=True, help="Where everything about the search goes; one that is there is gone on with."
)
@click.option("--external", type=FOLDER, default=None, help="Images from elsewhere, such as HPAv18, to be trained on too.")
@click.option("--ray", "address", default=None, help="A Ray to join, such as auto or HOST:6379; without it one is started here.")
@CACHE
@_told
def run(space: Path, folder: Path, out: Path, external: Path | None, address: str | None, cache: Path) -> None:
    """Search the space of the file SPACE, finish, and export the winner."""
    from hpa_search.run import run as run_all

    if not run_all(space, folder, out, cache, external=external, ray_address=address, console=_console()):
        sys.exit(130)


@main.command()
@click.argument("space", type=FOLDER)
@click.option("--address", required=True, help="The cluster's dashboard, such as http://HEAD:8265.")
@click.option("--data", "folder", required=True, help="The dataset, as the cluster's nodes see it.")
@click.option("--out", required=True, help="Where everything about the search goes, as the cluster's nodes see it.")
@click.option("--external", default=None, help="Images from elsewhere that are trained on too, as the cluster's nodes see them.")
@click.option("--cache", default=None, help="Where the nodes keep decoded images (default: as for run).")
@_told
def submit(space: Path, address: str, folder: str, out: str, external: str | None, cache: str | None) -> None:
    """Run the search of the file SPACE as a job on a Ray cluster."""
    from hpa_search.cluster import submit as submit_job

    for line in submit_job(space, address, folder, out, external=external, cache=cache):
        click.echo(line)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--data", "folder", type=FOLDER, default=None, help="Where the dataset is now, if it was moved.")
@click.option("--also", type=FOLDER, multiple=True, help="Another search on the same split, whose trials may become members too.")
@click.option("--max-members", type=int, default=None, help="At most so many members.  [default: final.max_members]")
@click.option("--ensemble", default=None, help="How members are chosen: greedy, uniform, single.  [default: final.ensemble]")
@click.option("--thresholds", default=None, help="plug_in, proportion, exact, global, half, grid.  [default: final.thresholds]")
@click.option("--tta", default=None, help="Judge by eight views of an image: none, mean, max.  [default: final.tta]")
@click.option("--onnx/--no-onnx", default=None, help="Write the ensemble as an ONNX graph too.  [default: final.onnx]")
@click.option("--folds", is_flag=True, help="Train the chosen members on the other folds too (a search with split.folds).")
@click.option("--ray", "address", default=None, help="With --folds: a Ray to join; without it one is started here.")
@CACHE
@_told
def finish(
    out: Path, folder: Path | None, also: tuple[Path, ...], folds: bool, address: str | None, cache: Path, **changes: Any
) -> None:
    """Choose the ensemble and write the bundle from what is in OUT now."""
    from hpa_search.finish.folds import train_folds
    from hpa_search.finish.stage import finish as finish_search
    from hpa_search.finish.summary import summary

    if address is not None and not folds:
        raise UserError("--ray: only --folds trains anything; leave it out, or give --folds too")
    train = partial(train_folds, cache=cache, ray_address=address, console=_console()) if folds else None
    given = {name: value for name, value in changes.items() if value is not None}
    result = finish_search(out, cache, data=folder, also=also, changes=given, train_folds=train, say=click.echo)
    if result is None:
        click.echo(f"Stopped; what is trained is in {out / 'folds'}. To go on, give the same command again.")
        sys.exit(130)
    for line in summary(out, result):
        click.echo(line)


@main.command()
@click.option("--predictions", type=FOLDER, required=True, help="The models' predictions, .npz or .csv.")
@click.option("--out", type=FOLDER, required=True, help="A folder for the ensemble; with --apply, a CSV file for the labels.")
@click.option("--logits", is_flag=True, help="The values are logits, not probabilities.")
@click.option("--ensemble", "selection", default=None, help="How to choose: greedy, uniform or single.  [default: greedy]")
@click.option(
    "--thresholds",
    default=None,
    help="How labels are decided: plug_in, proportion, exact, global, grid or half.  [default: plug_in]",
)
@click.option("--max-members", type=click.IntRange(1, 50), default=None, help="The most models that take part.  [default: 5]")
@click.option("--apply", "folder", type=FOLDER, default=None, help="Label rows with the ensemble in this folder.")
@click.option("--probabilities", type=FOLDER, default=None, help="With --apply: an .npz or .csv for the probabilities.")
@_told
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
    click.echo(f"{applied.rows} rows labelled in {out}.{filled}")


def _make_ensemble(predictions: Path, out: Path, logits: bool, how: dict[str, Any]) -> None:
    from hpa_search.data.progress import progress
    from hpa_search.predictions.ensemble import make_ensemble
    from hpa_search.predictions.tables import last_lines

    console = _console()
    say = partial(console.print, highlight=False, markup=False)
    renamed = {"ensemble" if name == "selection" else name: value for name, value in how.items()}
    with progress(console, "Choosing on all rows and in folds") as tell:
        result = make_ensemble(predictions, out, logits=logits, say=say, tell=tell, **renamed)
    for line in last_lines(out, result):
        click.echo(line)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--by", multiple=True, help="A dimension to compare by; again for more (default: all but replicate).")
@click.option("--data", "folder", type=FOLDER, default=None, help="Where the dataset is now, if it was moved.")
@_told
def compare(out: Path, by: tuple[str, ...], folder: Path | None) -> None:
    """Compare the settings of the study in OUT: macro AP on the validation rows, with paired bootstrap intervals."""
    from hpa_search.finish.compare import compare as compare_study
    from hpa_search.finish.compare import table

    for line in table(compare_study(out, data=folder, by=by)):
        click.echo(line)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_told
def status(out: Path, as_json: bool) -> None:
    """Show the state of the search in OUT and of each trial."""
    from hpa_search.search.status import read_status

    found = read_status(out)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['state']}, {found['seconds']:.0f} s spent, {len(found['trials'])} trials")
    for trial in found["trials"]:
        best = max((report["objective"] for report in trial["reports"]), default=None)
        shown = "" if best is None else f"best {best:.4f}"
        click.echo(f"{trial['number']:>5}  {trial['state']:<9} {trial['epochs']:>3} epochs  {shown:<12} {trial['ended'] or ''}")


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--port", type=click.IntRange(1, 65535), default=6006, show_default=True)
@_told
def tensorboard(out: Path, port: int) -> None:
    """Serve TensorBoard on the trials of the search in OUT."""
    folder = out / "tensorboard"
    if not folder.is_dir():
        raise UserError(f"{folder}: nothing to show; give the --out of a `hpa-search run`")
    sys.exit(subprocess.call([sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]))


@main.command()
@click.argument("bundle", type=FOLDER)
@click.argument("images", type=FOLDER)
@click.option("--out", type=FOLDER, default=Path("submission.csv"), show_default=True)
@click.option("--list", "listed", type=FOLDER, default=None, help="The Ids that are wanted: one a line, or CSV with a column Id.")
@click.option("--probabilities", type=FOLDER, default=None, help="An .npz or .csv file for the calibrated probabilities.")
@CACHE
@_told
def predict(bundle: Path, images: Path, out: Path, listed: Path | None, probabilities: Path | None, cache: Path) -> None:
    """Label IMAGES, a folder of <Id>_<colour>.png or a dataset (its test/, else its train/), with BUNDLE."""
    from hpa_search.bundle.labelling import predict_folder

    predict_folder(bundle, images, out, cache, console=_console(), listed=listed, probabilities=probabilities)


if __name__ == "__main__":
    main()
