"""The main job: check the data, search, finish; or go on with what an earlier run left."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from hpa_search.data.check import load_dataset
from hpa_search.data.external import External, read_external
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.progress import progress
from hpa_search.engine.commands import COMMANDS
from hpa_search.engine.driver import Driver, Site
from hpa_search.engine.worker import Trials
from hpa_search.errors import UserError
from hpa_search.finish.stage import DELETES, ORDER, finish
from hpa_search.finish.summary import summary
from hpa_search.hints import command
from hpa_search.layout import BEGUN, STUDY
from hpa_search.ledger.study_place import check_url, choose_study, read_study_place
from hpa_search.search.life import Outcome
from hpa_search.search.log import LOG, SearchLog
from hpa_search.search.reading import check_weights, read_search
from hpa_search.search.tensorboard import TensorBoard
from hpa_search.search.view import View
from hpa_search.search.workspace import Inputs, check_out, keep_changes, prepare, read_again
from hpa_search.space.search import Search
from hpa_search.storage.data_cache import local_folder, localise
from hpa_search.storage.naming import naming
from hpa_search.storage.opened import Opened, opened
from hpa_search.storage.place import Location, Place
from hpa_search.training.job import Job, open_trial


@dataclass(frozen=True)
class _Given:
    """What a run was given: where its dataset and external images are, where its cache and its terminal."""

    data: Place
    external: Place | None
    cache: Path
    console: Console


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
    """Run the search of the file ``space`` on ``data`` into ``out``; return how that ended.

    ``external`` is a folder of images that are trained on beside the dataset's own. Each may be in an object store: data are
    then fetched into ``cache``, and ``out`` is worked on in a mirror there, which is pushed every few seconds. ``study`` is the
    URL of a database for the ledger, which an ``out`` in an object store needs.

    Raises UserError for everything the user can mend; nothing in ``out`` is damaged by it.
    """
    search, text = read_search(space)
    if study is not None:
        check_url(study)
    log = SearchLog()
    view = View(search, console, log)
    given = _Given(Place.of(data), None if external is None else Place.of(external), cache, console)
    with opened(out, cache, *BEGUN, LOG, keeps=True, order=ORDER, deletes=DELETES, say=view.say) as work, _told_to(log):
        say = work.saying(view.say)
        _check_study(work, study)
        job, keep = _ready(work, search, text, given, say)
        choose_study(work.folder, study, search.name)
        work.push()  # before the workers look for the split, and anything is written to the study
        search = read_again(work.folder, search)[0]
        site = Site(work.folder, commands=work.place / COMMANDS, ray_address=ray_address)
        with ExitStack() as shown:
            shown.enter_context(view.showing())
            watchers = TensorBoard(work.folder), view
            with Driver(search, site, Trials(open_trial, job), watchers=watchers, say=say) as driver:
                log.open(work.folder)
                keep()
                work.push()
                if (outcome := driver.run()) == "finished":
                    shown.close()  # the final stage prints lines of its own
                    _finish(work, given, data, view.say)
                    driver.finish()
        if outcome != "finished":
            view.say(f"{outcome.capitalize()}; everything so far is in {work.place}. To go on: {command('resume', work.place)}")
        return outcome


@contextmanager
def _told_to(log: SearchLog) -> Iterator[None]:
    """Write into the log why the block ended before its time: nobody may have seen it on a terminal."""
    try:
        yield
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
        log.write(f"Ended: {reason}")
        raise


def _finish(work: Opened, given: _Given, data: Location, say: Callable[[str], None]) -> None:
    result = finish(work, given.cache, data=data, say=say)
    assert result is not None
    for line in summary(work.place, result):
        say(line)


def _check_study(work: Opened, study: str | None) -> None:
    if work.mirror is not None and study is None and read_study_place(work.folder) is None:
        raise UserError(
            f"{work.place}: a search in an object store keeps its study in a database, because a store cannot append to a file; "
            "give --study postgresql://user@host/database"
        )


def _ready(work: Opened, search: Search, text: str, given: _Given, say: Callable[[str], None]) -> tuple[Job, Callable[[], None]]:
    """Fetch, check and pack what the search is given, and make its OUT ready; what has changed since it was begun is written
    by the function that comes with its job.
    """
    names = None if work.mirror is None else work.names()
    with ExitStack() as stack:
        root = stack.enter_context(_fetched(given.data, "dataset", given, say))
        folder = stack.enter_context(_fetched(given.external, "external images", given, say)) if given.external else None
        with suppress(DatasetFaults):  # refuse OUT before the images, which may take long, are looked at
            check_out(work.folder, search, text, read_dataset(root), given.cache, names)
        with progress(given.console, "Checking and packing images") as tell:
            dataset, images, _ = load_dataset(root, given.cache, tell)
        more = None if folder is None else _external(folder, images.size, given)
        check_weights(search)
        external = None if given.external is None else given.external.resolve().plain
        inputs = Inputs(dataset, images, more, external, given.data)
        _check_still_free(work)
        job = prepare(work.folder, search, text, inputs, given.cache, say, place=work.place, names=names)
        return job, lambda: keep_changes(work.folder, search, text, inputs)


def _external(folder: Path, size: int, given: _Given) -> External:
    with progress(given.console, "Checking and packing external images") as tell:
        return read_external(folder, size, given.cache, tell)


def _check_still_free(work: Opened) -> None:
    """Refuse an OUT in a store in which another driver has begun a search since it was opened, of whose study nothing is known."""
    if work.mirror is not None and read_study_place(work.folder) is None and STUDY in work.names():
        raise UserError(
            f"{work.place}: another driver has begun a search there meanwhile; give the same command again to wait for it"
        )


@contextmanager
def _fetched(place: Place, what: str, given: _Given, say: Callable[[str], None]) -> Iterator[Path]:
    """Yield the local folder of a dataset, with progress while it is fetched, and messages that name its place."""
    if place.is_local:
        yield place.local
        return
    with naming(local_folder(place, given.cache), place):
        with progress(given.console, f"Fetching the {what} from {place}") as tell:
            folder = localise(place, given.cache, tell, say=say)
        yield folder
