"""What people see: a real TensorBoard server on the files of a conditional search."""

import time

import pytest

from hpa_search.board.events import EventFiles
from hpa_search.board.runs import TensorBoard
from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.space.parsing import parse_search
from tests.servers.tensorboard import tensorboard

pytestmark = pytest.mark.long

SPACE = """
name: conditional
space:
  learning_rate: {log_range: [1.0e-4, 1.0e-1]}
  batch_size: {integer: [8, 32]}
  optimizer: {choice: [adam, adamw, sgd]}
  momentum: {range: [0.0, 0.9], when: {optimizer: sgd}}
  loss: {choice: [bce, focal]}
  gamma: {range: [0.5, 4.0], when: {loss: focal}}
  clip_norm: {choice: [null, 1.0, 5.0]}
  small_size: {choice: [128, 256]}
sampler: random
budget: {trials: 14}
scheduler: {min_epochs: 1, max_epochs: 9, eta: 3}
"""
ENDED = {"complete": "STATUS_SUCCESS", "pruned": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}


def score(number, epoch):
    """Go up and down, so that the best epoch is not the last."""
    return number / 100 + (0.5 if epoch == 2 else 0.01 * epoch)


@pytest.fixture(scope="module")
def search():
    return parse_search(SPACE, "conditional")


@pytest.fixture(scope="module")
def out(search, tmp_path_factory):
    """A search that ran under two drivers, and has been closed but for two trials: one runs, one failed."""
    out = tmp_path_factory.mktemp("out")
    ledger = Ledger.create(out, "conditional")

    def drive(legs):
        agenda = Agenda(search, ledger, slots=1, spent_seconds=lambda: 90.0, watchers=(TensorBoard(EventFiles(out), search),))
        while legs and (leg := agenda.next()) is not None:
            legs -= 1
            if leg.number == 3:
                agenda.fail(3, "out of memory")
                continue
            for epoch in range(leg.reported + 1, leg.target + 1):
                value = score(leg.number, epoch)
                metrics = {
                    "epoch": epoch,
                    "objective": value,
                    "macro_f1": value / 2,
                    "train_loss": 1 / epoch,
                    "seconds": 2.0,
                    "f1/Lipid droplets": 0.5,
                }
                agenda.report(leg.number, EpochReport.of(metrics))
        return agenda

    drive(7)
    time.sleep(1.1)  # the files of a run are read by the second of their making
    agenda = drive(1000)
    agenda.close()
    return out


@pytest.fixture(scope="module")
def server(out):
    with tensorboard(out / "tensorboard") as found:
        yield found


def test_there_is_a_column_for_each_parameter_with_its_domain(server, search):
    columns = server.columns()
    assert columns.keys() == search.space.keys()
    assert columns["gamma"]["domainInterval"] == {"minValue": 0.5, "maxValue": 4.0}
    assert columns["optimizer"]["domainDiscrete"] == ["adam", "adamw", "sgd"]
    assert columns["clip_norm"]["domainDiscrete"] == ["none", "1.0", "5.0"]
    assert columns["small_size"]["domainDiscrete"] == [128, 256]


def test_each_trial_is_a_row_with_all_its_values_and_its_end(server, out):
    rows = server.rows([])
    trials = Ledger.open(out).trials()
    assert rows.keys() == {f"{trial.number:04d}" for trial in trials}
    for trial in trials:
        row = rows[f"{trial.number:04d}"]
        shown = {
            name: "none" if value is None else str(value) if name == "clip_norm" else value
            for name, value in trial.parameters.items()
        }
        assert row["parameters"] == shown
        assert row["status"] == ENDED[trial.end or "pruned"]


def test_metrics_are_those_of_the_best_epoch(server, out):
    rows = server.rows(["best/objective", "best/macro_f1"])
    for trial in Ledger.open(out).trials():
        if trial.reports:
            best = max(trial.reports.values())
            shown = rows[f"{trial.number:04d}"]["metrics"]
            assert shown == {"best/objective": pytest.approx(best), "best/macro_f1": pytest.approx(best / 2)}


def test_tags_are_grouped_and_the_whole_search_has_a_run(server, out):
    tags = server.get("plugin/scalars/tags")
    assert tags["0000"].keys() == {
        "objective",
        "validation/macro_f1",
        "f1/Lipid droplets",
        "train/loss",
        "system/seconds_per_epoch",
        "system/seconds/train",
        "best/objective",
        "best/macro_f1",
    }
    epochs = server.get("plugin/scalars/scalars?run=search&tag=search/best_objective_by_epochs")
    trials = Ledger.open(out).trials()
    assert [step for _, step, _ in epochs] == list(range(1, sum(len(trial.reports) for trial in trials) + 1))
    assert epochs[-1][2] == pytest.approx(max(max(trial.reports.values()) for trial in trials if trial.reports))
    assert server.get("plugin/custom_scalars/layout")["category"][0]["title"] == "Search"


def test_a_trial_in_training_is_listed_at_once_and_with_its_parameters(search, tmp_path):
    agenda = Agenda(
        search,
        Ledger.create(tmp_path, "conditional"),
        slots=2,
        spent_seconds=lambda: 0.0,
        watchers=(TensorBoard(EventFiles(tmp_path), search),),
    )
    leg = agenda.next()
    with tensorboard(tmp_path / "tensorboard") as server:
        assert server.columns().keys() == search.space.keys()
        row = server.rows([])["0000"]
        assert row["status"] in ("STATUS_RUNNING", "STATUS_UNKNOWN")
        assert row["parameters"]["learning_rate"] == leg.parameters["learning_rate"]


def test_a_search_begun_without_rows_gets_them_when_it_goes_on(search, tmp_path):
    ledger = Ledger.create(tmp_path, "conditional")
    before = Agenda(search, ledger, slots=3, spent_seconds=lambda: 0.0)
    for _ in range(3):
        before.next()
    before.report(0, EpochReport(1, 0.25, {}))
    before.fail(1, "out of memory")
    Agenda(search, ledger, slots=1, spent_seconds=lambda: 0.0, watchers=(TensorBoard(EventFiles(tmp_path), search),))
    with tensorboard(tmp_path / "tensorboard") as server:
        rows = server.rows([])
    assert rows.keys() == {"0000", "0001", "0002"}
    assert rows["0001"]["status"] == "STATUS_FAILURE" != rows["0002"]["status"]
