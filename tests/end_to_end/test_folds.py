"""Members trained on the other folds, by a real local Ray that is killed once."""

from dataclasses import replace

import numpy as np
import pytest

from hpa_search.bundle.predict import network_logits
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.finish.material import read_material
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import read_status
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search
from hpa_search.training.job import open_trial
from tests.end_to_end.conftest import SearchProcess

pytestmark = pytest.mark.ray

SPACE = """
name: folded
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}, channels: {choice: [rgby, g]}}
budget: {trials: 2}
scheduler: {kind: none, max_epochs: 4}
resources: {slots: 1, cpus: 1, gpus: 0}
split: {folds: 3, test: 0.2}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search on three folds whose trials were trained in this process."""
    folder = tmp_path_factory.mktemp("folds")
    make_phantom(folder / "data", images=110, size=32, seed=0, lift=4, test_images=2)
    search, dataset = parse_search(SPACE, "folded.yaml"), read_dataset(folder / "data")
    inputs = Inputs(dataset, pack(dataset.train_folder, dataset.ids, folder / "cache"))
    job = prepare(folder / "out", search, SPACE, inputs, folder / "cache", print)
    agenda = Agenda(search, Ledger.create(job.out, search.name), slots=1, spent_seconds=lambda: 0.0)
    while (leg := agenda.next()) is not None:
        trial = open_trial(job, leg.number, leg.parameters)
        while not agenda.report(leg.number, EpochReport.of(trial.run_epoch())):
            pass
        trial.close()
    return folder


@pytest.fixture
def start(searched):
    """Return a function that starts the training of members; its watched search is the first fold's."""
    started = []

    def begin():
        arguments = searched / "out", searched / "cache", searched / "found.npz"
        started.append(SearchProcess(searched / "out/folds/1", searched / "log", "fold_training.py", *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.close()
    print((searched / "log").read_text()[-6000:])


def test_after_a_kill_it_goes_on_and_ends_with_every_row_judged_by_a_network_that_never_saw_it(searched, start):
    process = start()
    before = process.wait_until(lambda trials: any(trial.epochs for trial in trials))
    process.kill_all()
    assert not (searched / "found.npz").exists()
    process = start()
    assert process.wait() == 0
    _check(searched, before)
    assert not process.left_behind()


def _check(searched, before):
    material = read_material(searched / "out", searched / "cache", None, (), print)
    members = material.pool.candidates[:2]
    for fold in (1, 2):
        out = searched / f"out/folds/{fold}"
        status = read_status(out)
        assert status["state"] == "finished"
        assert [(trial["state"], trial["epochs"]) for trial in status["trials"]] == [("complete", one.epoch) for one in members]
        assert sorted(path.name for path in (out / "tensorboard").iterdir()) == ["0000", "0001", "search"]
    for facts in before:
        assert facts.reports.items() <= Ledger.open(searched / "out/folds/1").trials()[facts.number].reports.items()
    found = np.load(searched / "found.npz")
    assert np.array_equal(found["rows"], np.setdiff1d(np.arange(len(material.images)), material.split.test))
    for member, logits, weights in zip(members, found["logits"], found["weights"], strict=True):
        for fold, path in enumerate(weights):
            mine = found["fold"] == fold
            place = type(member.weights)(str(path))
            again = network_logits(replace(material.network(member), weights=place), material.images, found["rows"][mine])
            assert np.allclose(logits[mine], again, atol=0.02)
