"""The states of a driver: which change is possible, and which reason to end counts."""

import pytest

from hpa_search.search.life import Life, State

RUNNING, CHANGING, PAUSING, ENDING = State.RUNNING, State.CHANGING_SLOTS, State.PAUSING, State.ENDING
CHANGES = {
    "run": {State.STARTING: RUNNING, CHANGING: RUNNING},
    "change_slots": {RUNNING: CHANGING},
    "pause": {State.STARTING: PAUSING, RUNNING: PAUSING, CHANGING: PAUSING},
    "end": dict.fromkeys(State, ENDING),
}
WAYS = {State.STARTING: [], RUNNING: ["run"], CHANGING: ["run", "change_slots"], PAUSING: ["pause"], ENDING: ["end"]}


def life_in(state):
    life = Life()
    for change in WAYS[state]:
        getattr(life, change)()
    assert life.state is state
    return life


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("state", State)
def test_a_change_that_the_picture_has_not_changes_nothing(state, change):
    life = life_in(state)
    getattr(life, change)()
    assert life.state is CHANGES[change].get(state, state)


@pytest.mark.parametrize(
    ("state", "begin", "drain", "outcome"),
    [
        (State.STARTING, True, False, "interrupted"),
        (RUNNING, True, False, "interrupted"),
        (CHANGING, False, True, "interrupted"),
        (PAUSING, False, True, "paused"),
        (ENDING, False, False, "interrupted"),
    ],
)
def test_what_legs_do_in_each_state(state, begin, drain, outcome):
    life = life_in(state)
    assert (life.legs_may_begin, life.is_draining, life.outcome) == (begin, drain, outcome)
    assert life.is_ending is (state is ENDING)


def test_the_first_reason_to_end_counts():
    life = Life()
    life.break_off("the ledger's disk is full")
    life.break_off("the mailbox is gone")
    assert life.trouble == "the ledger's disk is full"
    life = Life()
    life.end("stopped")
    life.break_off("the mailbox is gone")
    assert life.trouble is None and life.outcome == "stopped"


def test_an_end_outdoes_a_pause():
    life = life_in(PAUSING)
    life.end("stopped")
    assert life.outcome == "stopped"


def test_whoever_waits_for_the_end_hears_of_it_with_each_reason():
    life, heard = Life(), []
    life.at_end(lambda: heard.append(life.state))
    life.pause()
    assert heard == []
    life.end()
    assert heard == [ENDING]
