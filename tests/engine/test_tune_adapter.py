"""What Tune hands over to the agenda, which decides; without Ray."""

import errno
import math
import os
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from hpa_search.engine import tune_adapter as module
from hpa_search.engine.tune_adapter import AgendaScheduler, AgendaSearcher, Legs, StopWhenOver
from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import MOST_LOSSES, Agenda
from hpa_search.search.leg import EpochReport, Failed, Halted, Released


@dataclass
class TuneTrial:
    trial_id: str = "t0"


class Ears:
    """A watcher that notes what the ledger held when it heard of an epoch."""

    def __init__(self, out):
        self.out, self.heard = out, []

    def reported(self, number, report):
        self.heard.append((report.epoch, len(Ledger.open(self.out).trials()[number].reports)))

    def __getattr__(self, name):
        return lambda *arguments: None


class Box:
    """Notes what a mailbox would be asked."""

    def __init__(self):
        self.calls, self.lives = [], True
        for name in ("cancel", "drain", "close", "is_closed"):
            setattr(self, name, SimpleNamespace(remote=lambda *given, name=name: self.calls.append((name, *given))))

    def answer(self, _, timeout):
        if not self.lives:
            raise RayActorError


class Driver:
    """An agenda with the leg of its first trial under way, and what its mailbox was asked."""

    def __init__(self, search, out):
        self.out, self.ears, self.box = out, Ears(out), Box()
        self.agenda = Agenda(search, Ledger.create(out, "toy"), slots=1, spent_seconds=lambda: 0.0, watchers=(self.ears,))
        self.legs = Legs(self.agenda, self.box, out)
        self.searcher, self.scheduler = AgendaSearcher(self.legs, "mailbox"), AgendaScheduler(self.legs)
        self.stops = StopWhenOver(self.legs).stop_all
        self.leg = self.searcher.suggest("t0")["leg"]

    def hear(self, *events):
        return self.scheduler.on_trial_result(None, TuneTrial(), {"leg": self.leg, "events": list(events)})

    @property
    def trial(self):
        return Ledger.open(self.out).trials()[0]


@pytest.fixture
def driver(make_search, tmp_path, monkeypatch):
    driver = Driver(make_search(kind="none"), tmp_path)
    monkeypatch.setattr(module, "ray", SimpleNamespace(get=driver.box.answer))
    return driver


def done(epoch, objective=0.5):
    return EpochReport(epoch, objective, {})


def test_an_epoch_is_in_the_ledger_before_anybody_hears_of_it(driver):
    assert driver.hear(done(1), done(2), done(3)) == TrialScheduler.CONTINUE
    assert driver.trial.reports == {1: 0.5, 2: 0.5, 3: 0.5}
    assert driver.ears.heard == [(1, 1), (2, 2), (3, 3)]


def test_a_target_among_epochs_that_come_together_ends_the_leg_there(driver):
    target = driver.leg.target
    assert driver.hear(*map(done, range(1, target + 3))) == TrialScheduler.STOP
    assert (driver.trial.epochs, driver.trial.end) == (target, "complete")
    assert driver.box.calls == [("cancel", driver.leg)] and not driver.legs.running


@pytest.mark.parametrize(
    ("last", "end"), [(Failed("ValueError: no", "..."), "failed"), (Released(), None), (done(3, math.nan), "failed")]
)
def test_what_ends_a_leg_after_its_epochs_loses_none_of_them(driver, last, end):
    assert driver.hear(done(1), done(2), last) == TrialScheduler.STOP
    assert (driver.trial.reports, driver.trial.end) == ({1: 0.5, 2: 0.5}, end)
    assert 0 not in driver.agenda.live


def test_a_failure_leaves_its_traceback_in_the_trial_s_folder(driver):
    driver.hear(Failed("ValueError: no", "Traceback ..."))
    assert (driver.out / "trials/0000/error.txt").read_text() == "Traceback ..."


def test_a_fault_that_is_no_trial_s_breaks_the_search_off_with_what_came_before(driver):
    driver.hear(done(1), Halted("the disk is full"))
    assert driver.agenda.life.trouble == "the disk is full"
    assert (driver.trial.reports, driver.trial.end) == ({1: 0.5}, None)
    assert driver.stops() and driver.searcher.suggest("t1") == Searcher.FINISHED


def test_a_disk_that_is_full_breaks_the_search_off_and_nobody_heard_of_what_is_not_written(driver, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        driver.hear(done(1), done(2))
    assert "No space left" in driver.agenda.life.trouble
    assert not driver.ears.heard
    again = Driver(driver.agenda.search, driver.out)
    assert again.leg.number == 0 and again.hear(done(1), done(2), done(3)) == TrialScheduler.CONTINUE
    assert again.trial.reports == {1: 0.5, 2: 0.5, 3: 0.5}


def test_a_leg_whose_proxy_died_is_handed_out_again_with_another_id(driver):
    driver.searcher.on_trial_complete("t0", error=True)
    again = driver.searcher.suggest("t1")["leg"]
    assert again == replace(driver.leg, id=driver.leg.id + 1)


def test_the_last_leg_that_a_trial_may_lose_is_cancelled(driver):
    for number in range(MOST_LOSSES):
        leg = driver.legs.running[f"t{number}"]
        driver.searcher.on_trial_complete(f"t{number}", error=True)
        driver.searcher.suggest(f"t{number + 1}")
    assert driver.trial.end == "failed"
    assert [call for call in driver.box.calls if call[0] == "cancel"] == [("cancel", leg)]


def test_a_mailbox_that_died_breaks_the_search_off_and_fails_no_trial(driver):
    driver.box.lives = False
    driver.searcher.on_trial_complete("t0", error=True)
    assert "mailbox between slots and trials died" in driver.agenda.life.trouble
    assert driver.trial.end is None


@pytest.mark.parametrize("ask", ["pause", "change_slots"])
def test_the_mailbox_is_drained_while_a_leg_runs_and_closed_after_the_last(driver, ask):
    driver.agenda.life.run()
    getattr(driver.agenda.life, ask)()
    assert not driver.stops() and driver.box.calls[-1] == ("drain",)
    assert driver.hear(done(1)) == TrialScheduler.STOP
    assert driver.searcher.suggest("t1") == Searcher.FINISHED
    assert driver.stops() and driver.box.calls[-1] == ("close",)


def test_the_end_of_the_driver_closes_the_mailbox_while_a_leg_runs(driver):
    driver.agenda.life.end()
    assert driver.stops() and driver.box.calls == [("close",)]
