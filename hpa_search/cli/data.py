"""`hpa-search data`: make and check datasets."""

from pathlib import Path

import click

from hpa_search.cli.options import CACHE, FOLDER, Fault, console_here, is_standard_output, told
from hpa_search.cli.output import unwatched
from hpa_search.hints import command


@click.group()
def data() -> None:
    """Make and check datasets in the Kaggle layout."""


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--images", type=int, default=600, show_default=True, help="Number of training images.")
@click.option("--test-images", type=int, default=None, help="Number of test images.  [default: a fifth of --images]")
@click.option("--size", type=int, default=128, show_default=True, help="Height and width of an image in pixels.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the drawing: the same seed draws the same images.")
@click.option("--lift", type=int, default=0, show_default=True, help="Least number of positives of each class.")
@unwatched
@told
def phantom(folder: Path, images: int, test_images: int | None, size: int, seed: int, lift: int) -> None:
    """Draw a synthetic dataset into FOLDER. Results on phantoms say nothing about the real atlas."""
    from hpa_search.data.progress import progress
    from hpa_search.phantom.dataset import make_phantom

    with progress(console_here(), "Drawing images") as tell:
        make_phantom(folder, images=images, size=size, seed=seed, lift=lift, test_images=test_images, progress=tell)
    click.echo(f"{images} images in {folder}. Next: {command('data', 'check', folder)}")


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--sheet", type=FOLDER, default=Path("sheet.png"), show_default=True, help="File for the sheet of sample images.")
@CACHE
@unwatched
@told
def check(folder: Path, sheet: Path, cache: Path) -> None:
    """List every fault of the dataset in FOLDER. Without faults, count its labels and write a sheet of sample images."""
    from hpa_search.data.check import check_dataset
    from hpa_search.data.progress import progress

    aside = is_standard_output(sheet)
    with progress(console_here(aside=aside), "Reading images") as tell:
        report = check_dataset(folder, sheet, cache, tell)
    if report.faults:
        raise Fault(f"{folder} has {len(report.faults)} fault(s):\n" + "\n".join(report.faults))
    assert report.counts is not None
    found = f"{report.images} images of {report.size} px, {report.test_images} test images; no fault found. Sheet: {report.sheet}"
    click.echo(f"{report.counts.to_string(index=False)}\n{found}", err=aside)
