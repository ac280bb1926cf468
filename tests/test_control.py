"""Commands to a search at whose OUT no driver is at work, and what `resume` remembers."""

import shutil

import pytest

from hpa_search.control import remembered, rest
from hpa_search.data.external import read_external
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.engine.commands import COMMANDS, Command
from hpa_search.engine.driver import Driver, Site
from hpa_search.errors import UserError
from hpa_search.layout import SEARCH
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import read_status
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


@pytest.mark.parametrize(("wish", "word"), [("pause", "paused"), ("stop", "stopped")])
def test_where_no_driver_is_at_work_it_is_noted(work, wish, word):
    said = []
    rest(work, Command(wish=wish), wait=True, say=said.append)
    assert read_status(work.folder)["state"] == word
    assert any(f"{word}. To go on: hpa-search resume {work.place}" in line for line in said)


def test_unless_one_is_coming_up(work):
    said = []
    rest(work, Command(wish="pause"), wait=True, say=said.append, coming=True)
    assert read_status(work.folder)["state"] == "interrupted"
    assert said == [f"The driver of {work.place} is coming up and takes no commands yet."]
    assert not (work.folder / COMMANDS).exists()


def test_resume_knows_what_the_search_was_started_with(work, made):
    assert remembered(work, None, None) == (work.folder / SEARCH, made / "data", made / "more")


def test_resume_is_told_where_data_are_now(work, made, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    found = remembered(work, tmp_path / "here", tmp_path / "there")
    assert found == (work.folder / SEARCH, tmp_path / "here", tmp_path / "there")
    with pytest.raises(UserError, match="gone: no dataset of the search in .* give their new place as --data"):
        remembered(work, tmp_path / "gone", None)
    with pytest.raises(UserError, match="gone: no external images .* give their new place as --external"):
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
