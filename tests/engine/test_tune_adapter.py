"""What Tune hands over to the agenda, which decides; without Ray."""

import errno
import os
from dataclasses import dataclass

import pytest
from ray.tune.schedulers import TrialScheduler

from hpa_search.engine.tune_adapter import AgendaScheduler, AgendaSearcher
from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda


@dataclass
class TuneTrial:
    trial_id: str = "t0"


class Ears:
    """A watcher that notes what the ledger held when it heard of an epoch."""

    def __init__(self, out):
        self.out, self.heard = out, []

    def reported(self, number, metrics):
        self.heard.append((metrics["epoch"], len(Ledger.open(self.out).trials()[number].reports)))

    def __getattr__(self, name):
        return lambda *arguments: None


class Driver:
    """An agenda with the leg of its first trial under way, and what was asked of the exchange."""

    def __init__(self, search, out):
        self.out, self.ears, self.cancelled, self.failures = out, Ears(out), [], []
        self.agenda = Agenda(search, Ledger.create(out, "toy"), slots=1, spent_seconds=lambda: 0.0, watchers=(self.ears,))
        self.searcher = AgendaSearcher(self.agenda, "exchange", lambda: True, self._cancel, lambda: False)
        self.scheduler = AgendaScheduler(self.agenda, self.searcher, self._cancel, lambda *told: self.failures.append(told))
        self.leg = self.searcher.suggest("t0")["leg"]

    def _cancel(self, number, epoch):
        self.cancelled.append((number, epoch))

    def hear(self, *rows):
        return self.scheduler.on_trial_result(None, TuneTrial(), {"number": 0, "rows": list(rows)})

    @property
    def trial(self):
        return Ledger.open(self.out).trials()[0]


@pytest.fixture
def driver(make_search, tmp_path):
    return Driver(make_search(kind="none"), tmp_path)


def row(epoch, objective=0.5):
    return {"epoch": epoch, "objective": objective}


def test_epochs_that_come_together_are_in_the_ledger_before_anybody_hears_of_them(driver):
    assert driver.hear(row(1), row(2), row(3)) == TrialScheduler.CONTINUE
    assert driver.trial.reports == {1: 0.5, 2: 0.5, 3: 0.5}
    assert driver.ears.heard == [(1, 3), (2, 3), (3, 3)]


def test_a_target_within_what_comes_together_ends_the_leg_there(driver):
    target = driver.leg["target"]
    rows = [row(epoch) for epoch in range(1, target + 3)]
    assert driver.hear(*rows) == TrialScheduler.STOP
    assert (driver.trial.epochs, driver.trial.end) == (target, "complete")
    assert driver.cancelled == [(0, target)] and not driver.searcher.running_legs


@pytest.mark.parametrize(
    ("last", "end"),
    [({"failed": "ValueError: no", "details": "..."}, "failed"), ({"stopped": True}, None), (row(3, float("nan")), "failed")],
)
def test_what_ends_a_leg_after_its_epochs_loses_none_of_them(driver, last, end):
    assert driver.hear(row(1), row(2), last) == TrialScheduler.STOP
    assert (driver.trial.reports, driver.trial.end) == ({1: 0.5, 2: 0.5}, end)
    assert 0 not in driver.agenda.live


def test_a_fault_that_is_no_trial_s_breaks_the_search_off_with_what_came_before(driver):
    driver.hear(row(1), {"halted": "the disk is full"})
    assert driver.agenda.broken == "the disk is full"
    assert (driver.trial.reports, driver.trial.end) == ({1: 0.5}, None)


def test_a_disk_that_is_full_in_the_end_is_told_and_nobody_heard_of_what_is_not_written(driver, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        driver.hear(row(1), row(2))
    assert "No space left" in driver.agenda.broken
    assert not driver.ears.heard
    again = Driver(driver.agenda.search, driver.out)
    assert again.leg["number"] == 0 and again.hear(row(1), row(2), row(3)) == TrialScheduler.CONTINUE
    assert again.trial.reports == {1: 0.5, 2: 0.5, 3: 0.5}
