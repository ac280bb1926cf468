"""A handle on an OUT without a driver, and the data that `resume` remembers."""

import shutil
from functools import partial

import pytest

from hpa_search.control import OutHandle, remembered
from hpa_search.data.external import read_external
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.engine.commands import COMMANDS, CommandBox
from hpa_search.engine.driver import Driver, Site
from hpa_search.errors import UserError
from hpa_search.layout import SEARCH
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import FINISHED, read_status
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search
from hpa_search.storage.opened import opened

TEXT = "name: toy\nfixed: {small_size: 32, full_size: 32}\nbudget: {trials: 1}\nobjective: {min_positives: 2}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a search in OUT that has external images, and where the data are."""
    folder = tmp_path_factory.mktemp("control")
    for name, seed in (("data", 1), ("more", 2)):
        make_phantom(folder / name, images=48, size=32, seed=seed, lift=0, test_images=1, workers=1)
    dataset = read_dataset(folder / "data")
    images = pack(dataset.train_folder, dataset.ids, folder / "cache")
    external = read_external(folder / "more", images.size, folder / "cache")
    inputs = Inputs(dataset, images, external, folder / "more")
    prepare(folder / "out", parse_search(TEXT, "toy"), TEXT, inputs, folder / "cache", print)
    Ledger.create(folder / "out", "toy")
    return folder


@pytest.fixture
def work(made, tmp_path):
    """The OUT, opened; each test has its own."""
    shutil.copytree(made / "out", tmp_path / "out")
    with opened(tmp_path / "out", tmp_path / "cache") as work:
        yield work


@pytest.fixture
def said():
    return []


@pytest.fixture
def handle(work, said):
    with OutHandle(str(work.place), say=said.append) as handle:
        yield handle


def test_a_search_without_a_driver_is_interrupted(handle):
    found = handle.status()
    assert (found.state, found.is_active, found.job) == ("interrupted", False, "")
    assert found.facts == {"state": "interrupted", "seconds": 0.0, "slot_seconds": {}, "trials": []}


@pytest.mark.parametrize(("wish", "word"), [("pause", "paused"), ("stop", "stopped")])
def test_a_rest_without_a_driver_is_noted(handle, work, said, wish, word):
    getattr(handle, wish)(wait=True)
    assert handle.status().state == word
    assert said == [f"No driver is at work on {work.place}: {word}. To resume: hpa-search resume {work.place}"]


def test_nothing_is_noted_while_a_driver_starts(work, said):
    with OutHandle(str(work.place), say=said.append, is_starting=True) as handle:
        handle.pause(wait=True)
        assert handle.status().state == "interrupted"
    assert said == [f"The driver of {work.place} is starting and reads no commands yet."]
    assert not (work.folder / COMMANDS).exists()


def test_a_finished_search_has_nothing_to_stop(handle, work, said):
    ledger = lease.take(work.folder, "toy")
    ledger.ledger.note(FINISHED, True)
    ledger.release()
    handle.stop(wait=True)
    assert handle.status().state == "finished"
    assert said == [f"The search in {work.place} is finished; there is nothing to stop."]


def test_an_extension_waits_for_the_next_resume(handle, work, said):
    handle.extend(trials=3)
    assert said == [f"Extended by 3 trials, from the next resume on: hpa-search resume {work.place}"]
    assert [command.trials for command in CommandBox(work.place / COMMANDS).waiting().values()] == [3]
    with pytest.raises(UserError, match="not limited by hours"):
        handle.extend(hours=1.5)


def test_a_place_without_a_search_is_refused_by_every_method(tmp_path):
    with OutHandle(str(tmp_path), say=print) as handle:
        for method in (handle.status, handle.pause, handle.stop, handle.resume, partial(handle.extend, trials=1)):
            with pytest.raises(UserError, match="no search here"):
                method()


def test_a_mirror_of_a_store_lives_as_long_as_the_handle(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("HPA_SEARCH_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"^{bucket}: no search here"), OutHandle(str(bucket), say=print) as handle:
        assert not list(tmp_path.iterdir())
        with pytest.raises(UserError):
            handle.status()
        assert list((tmp_path / "mirrors").iterdir())
        handle.status()
    assert not list((tmp_path / "mirrors").iterdir())


def test_resume_knows_what_the_search_was_started_with(work, made):
    assert remembered(work, None, None) == (work.folder / SEARCH, made / "data", made / "more")


def test_resume_takes_the_new_places_of_data(work, made, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    found = remembered(work, tmp_path / "here", tmp_path / "there")
    assert found == (work.folder / SEARCH, tmp_path / "here", tmp_path / "there")
    with pytest.raises(UserError, match="gone: dataset of the search in .* not found; give the new place with --data"):
        remembered(work, tmp_path / "gone", None)
    with pytest.raises(UserError, match="gone: external images of .* not found; give the new place with --external"):
        remembered(work, None, tmp_path / "gone")


def finished_trial(out):
    """Let the only trial of the search in ``out`` be complete."""
    ledger = Ledger.create(out, "toy")
    search = parse_search(TEXT, "toy")
    ledger.add(0, {}, {}, target=search.scheduler.max_epochs)
    for epoch in range(1, search.scheduler.max_epochs + 1):
        ledger.report(0, epoch, 0.5)
    ledger.end(0, "complete", "trained to the end")
    return search


def test_a_search_is_finished_when_its_final_stage_is_and_its_driver_holds_it_until_then(work):
    with Driver(finished_trial(work.folder), Site(work.folder), None) as driver:
        assert driver.run() == "finished"
        assert read_status(work.folder)["state"] == "running"
        driver.finish()
    assert read_status(work.folder)["state"] == "finished"


def test_a_search_whose_final_stage_breaks_off_is_not_finished(work):
    with (
        pytest.raises(UserError, match="the disk is full"),
        Driver(finished_trial(work.folder), Site(work.folder), None) as driver,
    ):
        driver.run()
        raise UserError("the disk is full")
    assert read_status(work.folder)["state"] == "interrupted"
