import time

import pytest

from hpa_search.engine.commands import COMMANDS, Command, CommandBox
from hpa_search.engine.listener import Listener, budget_now, catch_up
from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.life import State
from hpa_search.storage.place import Place
from tests.engine.played import done


@pytest.fixture
def box(tmp_path):
    found = CommandBox(Place.of(tmp_path) / COMMANDS)
    found.seconds = 0.02
    return found


@pytest.fixture
def agenda(make_search, tmp_path):
    return Agenda(make_search(), Ledger.create(tmp_path, "toy"), slots=2, spent_seconds=lambda: 0.0)


def listen(box, agenda, *commands):
    """Send ``commands`` to a listener and return what was said, once all are taken."""
    said = []
    with Listener(box, agenda, agenda.search.budget, said.append):
        for command in commands:
            box.send(command)
        deadline = time.monotonic() + 5
        while box.waiting() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not box.waiting()
    return said


def test_a_pause_lets_legs_come_to_the_end_of_their_epoch(agenda, box, tmp_path):
    leg = agenda.next()
    listen(box, agenda, Command(wish="pause"))
    assert agenda.next() is None
    assert agenda.life.state is State.PAUSING
    assert not agenda.has_nothing_left
    assert agenda.report(leg.number, done(1)) is True
    assert not agenda.live


def test_a_pause_ends_a_leg_before_its_target(make_search, box, tmp_path):
    agenda = Agenda(make_search(kind="none"), Ledger.create(tmp_path, "toy"), slots=1, spent_seconds=lambda: 0.0)
    leg = agenda.next()
    assert agenda.report(leg.number, done(1)) is False
    listen(box, agenda, Command(wish="pause"))
    assert agenda.report(leg.number, done(2)) is True
    again = Agenda(make_search(kind="none"), Ledger.create(tmp_path, "toy"), slots=1, spent_seconds=lambda: 0.0)
    assert (again.next().number, again.trials[leg.number].epochs) == (leg.number, 2)


def test_a_stop_is_at_once(agenda, box, tmp_path):
    listen(box, agenda, Command(wish="stop"))
    assert agenda.life.is_ending
    assert agenda.life.outcome == "stopped"


def test_an_extension_counts_at_once_and_once(agenda, box, tmp_path):
    listen(box, agenda, Command(wish="extend", trials=5), Command(wish="extend", trials=1))
    assert agenda.search.budget.trials == 18
    assert budget_now(agenda.search.budget.model_copy(update={"trials": 12}), agenda.ledger).trials == 18
    # Read twice: as if the driver had been killed between the note and the file's removal.
    path = tmp_path / COMMANDS / box.send(Command(wish="extend", trials=2))
    text = path.read_text()
    catch_up(box, box.waiting(), agenda.ledger)
    path.write_text(text)
    catch_up(box, box.waiting(), agenda.ledger)
    assert budget_now(agenda.search.budget.model_copy(update={"trials": 12}), agenda.ledger).trials == 20


def test_what_was_asked_of_a_dead_driver(agenda, box, tmp_path):
    for command in (Command(wish="pause"), Command(wish="extend", trials=4), Command(wish="stop")):
        box.send(command)
    catch_up(box, box.waiting(), agenda.ledger)
    assert not box.waiting()
    assert budget_now(agenda.search.budget, agenda.ledger).trials == 16
    assert agenda.life.legs_may_begin


def test_a_foreign_file_is_told_and_removed(agenda, box, tmp_path):
    (tmp_path / COMMANDS).mkdir()
    (tmp_path / COMMANDS / "0.json").write_text("hello")
    said = listen(box, agenda)
    assert "cannot be read and was removed" in said[0]


def test_a_fault_that_nobody_foresaw_ends_the_driver_with_its_name(agenda, box):
    def fails():
        raise RuntimeError("was not foreseen")

    box.waiting = fails
    with Listener(box, agenda, agenda.search.budget, pytest.fail) as listener:
        listener._thread.join(5)
    assert agenda.life.trouble == "commands cannot be obeyed any more: RuntimeError: was not foreseen"
