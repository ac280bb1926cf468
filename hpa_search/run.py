"""The main job: check the data, search, and finish; or resume the search of an earlier run."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hpa_search.board.events import EventFiles
from hpa_search.board.runs import TensorBoard
from hpa_search.board.validation import Rows, ValidationBoard
from hpa_search.data.check import load_dataset
from hpa_search.data.external import External, read_external
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import Dataset, read_dataset
from hpa_search.data.packed import PackedImages
from hpa_search.data.progress import progress
from hpa_search.data.splits import read_split
from hpa_search.engine.commands import COMMANDS
from hpa_search.engine.driver import Driver, Site
from hpa_search.engine.worker import Trials
from hpa_search.errors import UserError
from hpa_search.finish.stage import DELETES, ORDER, finish
from hpa_search.finish.summary import summary
from hpa_search.hints import command
from hpa_search.labels import LABELS
from hpa_search.layout import BEGUN, SPLIT, STUDY, TIMES
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.study_place import check_url, choose_study, read_study_place
from hpa_search.plan.earlier import remember
from hpa_search.plan.plan import before_the_run
from hpa_search.report.write import write_report
from hpa_search.search.life import Outcome
from hpa_search.search.log import LOG, SearchLog
from hpa_search.search.reading import check_weights, read_search
from hpa_search.search.shelf import Shelf
from hpa_search.search.slot_times import SlotTimes
from hpa_search.search.trial_files import WorkTrialFiles
from hpa_search.search.view import View
from hpa_search.search.workspace import Inputs, check_out, keep_changes, prepare, read_again
from hpa_search.space.search import Search
from hpa_search.storage.data_cache import local_folder, localise
from hpa_search.storage.naming import naming
from hpa_search.storage.opened import WorkingCopy, opened
from hpa_search.storage.place import Location, Place
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import Job, open_trial, trial_folder, trial_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Given:
    """The inputs of a run: the places of its dataset and external images, its cache, and its terminal."""

    data: Place
    external: Place | None
    cache: Path
    console: Console


@dataclass(frozen=True)
class _Ready:
    """The workers' job and its data. ``keep`` writes what has changed since the search began; only the lease's holder may call it."""

    job: Job
    dataset: Dataset
    images: PackedImages
    keep: Callable[[], None]


def run(
    space: Path,
    data: Location,
    out: Location,
    cache: Path,
    *,
    external: Location | None,
    ray_address: str | None,
    console: Console,
    study: str | None = None,
) -> Outcome:
    """Run the search of the file ``space`` on ``data`` into ``out``, or resume it; return its outcome.

    ``external`` is a folder of images to train on beside the dataset's own. Each place may be in an object store. Data are then
    fetched into ``cache``. An ``out`` in a store has a mirror in ``cache``, which is pushed every few seconds, and it needs
    ``study``, the URL of a database for the ledger.

    Raises UserError for everything that the user can mend. It damages nothing in ``out``.
    """
    search, text = read_search(space)
    if study is not None:
        check_url(study)
    log = SearchLog()
    view = View(search, console, log)
    given = _Given(Place.of(data), None if external is None else Place.of(external), cache, console)
    with opened(out, cache, *BEGUN, LOG, keeps=True, order=ORDER, deletes=DELETES, say=view.say) as work, _end_logged(log):
        say = work.saying(view.say)
        _check_study(work, study)
        ready = _ready(work, search, text, given, say)
        choose_study(work.folder, study, search.name)
        work.push()  # before workers read the split, and before anything is written to the study
        search = read_again(work.folder, search)[0]
        for line in before_the_run(search):
            say(line)
        site = Site(work.folder, commands=work.place / COMMANDS, ray_address=ray_address)
        with ExitStack() as shown:
            shown.enter_context(view.showing())
            board, validation = _boards(work, search, ready)
            files = WorkTrialFiles(work)
            shelf = Shelf(search, files)
            with Driver(
                search,
                site,
                Trials(open_trial, ready.job),
                watchers=(board, validation, view, SlotTimes(work.folder)),
                shelf=shelf,
                say=say,
            ) as driver:
                work.fetch(LOG, TIMES)  # an earlier driver may have written until this one had the lease
                log.open(work.folder)
                ready.keep()
                work.push()
                if (outcome := driver.run()) == "finished":
                    shown.close()  # the final stage prints lines of its own
                    validation.drain()
                    _finish(work, given, data, ray_address, view.say)
                    driver.finish()
                    _remember(work, cache, search, ready)
                    view.say(f"Kept on disk: {files.in_words()} (keep: {search.keep})")
                    _report(work, cache, data, view.say)
        if outcome != "finished":
            view.say(f"{outcome.capitalize()}; everything so far is in {work.place}. To resume: {command('resume', work.place)}")
        return outcome


@contextmanager
def _end_logged(log: SearchLog) -> Iterator[None]:
    """Write to the log why the block ended early: nobody may have seen it on a terminal."""
    try:
        yield
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
        log.write(f"Ended: {reason}")
        raise


def _finish(work: WorkingCopy, given: _Given, data: Location, ray_address: str | None, say: Callable[[str], None]) -> None:
    result = finish(work, given.cache, data=data, ray_address=ray_address, say=say)
    assert result is not None
    for line in summary(work.place, result):
        say(line)


def _boards(work: WorkingCopy, search: Search, ready: _Ready) -> tuple[TensorBoard, ValidationBoard]:
    """Return the watchers that write for TensorBoard."""
    dataset, events = ready.dataset, EventFiles(work)
    rows = read_split(work.folder / SPLIT, dataset.ids).validation

    def logits(number: int, epoch: int) -> NDArray[np.float16] | None:
        work.fetch(f"{trial_name(number)}/logits.npz")
        return read_logits(trial_folder(work.folder, number)).get(epoch)

    shown = Rows(
        ids=tuple(np.array(dataset.ids)[rows].tolist()),
        labels=dataset.labels[rows],
        groups=None if dataset.groups is None else np.array(dataset.groups)[rows],
        images=ready.images,
        names=LABELS,
    )
    return TensorBoard(events, search), ValidationBoard(events, search, shown, logits)


def _remember(work: WorkingCopy, cache: Path, search: Search, ready: _Ready) -> None:
    """Keep what epochs took here, for plans. A search on several machines tells nothing about this one."""
    if work.mirror is None:
        rows = len(read_split(work.folder / SPLIT, ready.dataset.ids).train)
        with suppress(OSError, UserError):
            remember(cache, work.folder, search, Ledger.open(work.folder).trials(), rows)


def _report(work: WorkingCopy, cache: Path, data: Location, say: Callable[[str], None]) -> None:
    """Write the report. The search is finished by now, so a fault of the report's is said and ends nothing."""
    try:
        say(f"Report: {write_report(work, cache, data=data)}")
    except UserError as error:
        say(f"There is no report: {error}")
    except Exception:
        logger.exception("the report could not be written; `hpa-search report` writes it")


def _check_study(work: WorkingCopy, study: str | None) -> None:
    if work.mirror is not None and study is None and read_study_place(work.folder) is None:
        raise UserError(
            f"{work.place}: a search in an object store keeps its study in a database, because a store cannot append to a file; "
            "give --study postgresql://user@host/database"
        )


def _ready(work: WorkingCopy, search: Search, text: str, given: _Given, say: Callable[[str], None]) -> _Ready:
    """Fetch, check and pack the data, and make OUT ready."""
    names = None if work.mirror is None else work.names()
    with ExitStack() as stack:
        root = stack.enter_context(_fetched(given.data, "dataset", given, say))
        folder = stack.enter_context(_fetched(given.external, "external images", given, say)) if given.external else None
        with suppress(DatasetFaults):  # refuse a wrong OUT before the images are checked, which may take long
            check_out(work.folder, search, text, read_dataset(root), given.cache, names)
        with progress(given.console, "Checking and packing images") as tell:
            dataset, images, _ = load_dataset(root, given.cache, tell)
        more = None if folder is None else _external(folder, images.size, given)
        check_weights(search)
        external = None if given.external is None else given.external.resolve().plain
        inputs = Inputs(dataset, images, more, external, given.data)
        _check_still_free(work)
        job = prepare(work.folder, search, text, inputs, given.cache, say, place=work.place, names=names)
        return _Ready(job, dataset, images, lambda: keep_changes(work.folder, search, text, inputs))


def _external(folder: Path, size: int, given: _Given) -> External:
    with progress(given.console, "Checking and packing external images") as tell:
        return read_external(folder, size, given.cache, tell)


def _check_still_free(work: WorkingCopy) -> None:
    """Refuse an OUT in a store if another driver started a search there after it was opened."""
    if work.mirror is not None and read_study_place(work.folder) is None and STUDY in work.names():
        raise UserError(
            f"{work.place}: another driver has begun a search there meanwhile; give the same command again to wait for it"
        )


@contextmanager
def _fetched(place: Place, what: str, given: _Given, say: Callable[[str], None]) -> Iterator[Path]:
    """Yield the local folder of a dataset. Show progress while it is fetched. Messages name its place, not the folder."""
    if place.is_local:
        yield place.local
        return
    with naming(local_folder(place, given.cache), place):
        with progress(given.console, f"Fetching the {what} from {place}") as tell:
            folder = localise(place, given.cache, tell, say=say)
        yield folder
