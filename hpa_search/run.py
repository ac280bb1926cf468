"""The main job: check the data, search, finish; or go on with what an earlier run left."""

from contextlib import suppress
from pathlib import Path

from rich.console import Console

from hpa_search.data.check import load_dataset
from hpa_search.data.external import read_external
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.progress import progress
from hpa_search.finish.stage import finish
from hpa_search.finish.summary import summary
from hpa_search.search.driver import run_search
from hpa_search.search.ending import Outcome
from hpa_search.search.reading import check_weights, read_search
from hpa_search.search.tensorboard import TensorBoard
from hpa_search.search.view import View
from hpa_search.search.workspace import Inputs, check_out, prepare, read_workspace
from hpa_search.training.job import open_trial


def run(
    space: Path,
    data: Path,
    out: Path,
    cache: Path,
    *,
    external: Path | None,
    ray_address: str | None,
    console: Console,
    study: str | None = None,
) -> Outcome:
    """Run the search of the file ``space`` on ``data`` into ``out``; return how that ended.

    ``external`` is a folder of images that are trained on beside the dataset's own, ``study`` the URL of a database.

    Raises UserError for everything the user can mend; nothing in ``out`` is damaged by it.
    """
    search, text = read_search(space)
    view = View(search, console)
    with suppress(DatasetFaults):  # refuse OUT before the images, which may take long, are looked at
        check_out(out, search, text, read_dataset(data), cache)
    with progress(console, "Checking and packing images") as tell:
        dataset, images, _ = load_dataset(data, cache, tell)
    folder = external.resolve() if external else None
    with progress(console, "Checking and packing external images") as tell:
        more = read_external(folder, images.size, cache, tell) if folder else None
    check_weights(search)
    job = prepare(out, search, text, Inputs(dataset, images, more, folder), cache, view.say)
    search, _ = read_workspace(out)  # the same, but for the order of its dimensions, on which suggestions depend
    with view.showing():
        outcome = run_search(
            search,
            out,
            open_trial=open_trial,
            job=job,
            study=study,
            ray_address=ray_address,
            watchers=(TensorBoard(out), view),
            say=view.say,
        )
    if outcome != "finished":
        view.say(f"{outcome.capitalize()}; everything so far is in {out}. To go on: hpa-search resume {out}")
        return outcome
    result = finish(out, cache, data=data, say=view.say)
    assert result is not None
    for line in summary(out, result):
        view.say(line)
    return outcome
