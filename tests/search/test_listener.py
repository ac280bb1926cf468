import time

import pytest

from hpa_search.search import listener
from hpa_search.search.agenda import Agenda
from hpa_search.search.commands import COMMANDS, Command, send, waiting
from hpa_search.search.ending import Ending
from hpa_search.search.listener import Listener, budget_now, catch_up
from hpa_search.search.study import Ledger


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(listener, "LISTEN_SECONDS", 0.02)


@pytest.fixture
def agenda(make_search, tmp_path):
    return Agenda(make_search(), Ledger.create(tmp_path, "toy"), slots=2, spent_seconds=lambda: 0.0)


def listen(tmp_path, agenda, *commands):
    """Send ``commands`` to a listener and return the ending and what was said, once all are taken."""
    ending, said = Ending(), []
    with Listener(tmp_path, agenda, agenda.search.budget, ending, said.append):
        for command in commands:
            send(tmp_path, command)
        deadline = time.monotonic() + 5
        while waiting(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not waiting(tmp_path)
    return ending, said


def test_a_pause_lets_legs_come_to_the_end_of_their_epoch(agenda, tmp_path):
    leg = agenda.next()
    ending, _ = listen(tmp_path, agenda, Command(wish="pause"))
    assert agenda.next() is None
    assert not ending.now
    assert not agenda.finished
    assert agenda.report(leg.number, {"epoch": 1, "objective": 0.5}) is True
    assert not agenda.live


def test_a_pause_ends_a_leg_before_its_target(make_search, tmp_path):
    agenda = Agenda(make_search(kind="none"), Ledger.create(tmp_path, "toy"), slots=1, spent_seconds=lambda: 0.0)
    leg = agenda.next()
    assert agenda.report(leg.number, {"epoch": 1, "objective": 0.5}) is False
    listen(tmp_path, agenda, Command(wish="pause"))
    assert agenda.report(leg.number, {"epoch": 2, "objective": 0.5}) is True
    again = Agenda(make_search(kind="none"), Ledger.create(tmp_path, "toy"), slots=1, spent_seconds=lambda: 0.0)
    assert (again.next().number, again.trials[leg.number].epochs) == (leg.number, 2)


def test_a_stop_is_at_once(agenda, tmp_path):
    ending, _ = listen(tmp_path, agenda, Command(wish="stop"))
    assert ending.now
    assert ending.outcome == "stopped"


def test_an_extension_counts_at_once_and_once(agenda, tmp_path):
    listen(tmp_path, agenda, Command(wish="extend", trials=5), Command(wish="extend", trials=1))
    assert agenda.search.budget.trials == 18
    assert budget_now(agenda.search.budget.model_copy(update={"trials": 12}), agenda.ledger).trials == 18
    # Read twice: as if the driver had been killed between the note and the file's removal.
    path = send(tmp_path, Command(wish="extend", trials=2))
    text = path.read_text()
    catch_up(tmp_path, agenda.ledger)
    path.write_text(text)
    catch_up(tmp_path, agenda.ledger)
    assert budget_now(agenda.search.budget.model_copy(update={"trials": 12}), agenda.ledger).trials == 20


def test_what_was_asked_of_a_dead_driver(agenda, tmp_path):
    for command in (Command(wish="pause"), Command(wish="extend", trials=4), Command(wish="stop")):
        send(tmp_path, command)
    catch_up(tmp_path, agenda.ledger)
    assert not waiting(tmp_path)
    assert budget_now(agenda.search.budget, agenda.ledger).trials == 16
    assert not agenda.pausing


def test_a_foreign_file_is_told_and_removed(agenda, tmp_path):
    (tmp_path / COMMANDS).mkdir()
    (tmp_path / COMMANDS / "0.json").write_text("hello")
    _, said = listen(tmp_path, agenda)
    assert "is no command and was removed" in said[0]
