from hypothesis import given
from hypothesis import strategies as st

from hpa_search.ledger.ledger import TrialRecord
from hpa_search.search import roster as module
from hpa_search.search.roster import Roster
from hpa_search.search.rungs import Rungs


def record(number, epochs, target, end=None):
    return TrialRecord(number, {}, target, {epoch: float(number) for epoch in range(1, epochs + 1)}, end, None)


def test_a_trial_is_in_one_place():
    roster = Roster(Rungs((1, 3), 3))
    roster.put(record(0, 0, 1))
    assert roster.interrupted == {0}
    roster.begin(0)
    assert (roster.live, roster.interrupted) == ({0}, set())
    roster.update(0, reports={1: 0.5})
    roster.halt(0)
    assert (roster.live, roster.paused) == (set(), {0})
    roster.update(0, target=3)
    assert (roster.paused, roster.interrupted) == (set(), {0})
    roster.update(0, end="failed")
    assert not roster.live | roster.paused | roster.interrupted


def test_live_and_interrupted_trials_count_with_the_epochs_that_they_have_yet_to_do():
    roster = Roster(Rungs((1, 3), 3))
    roster.put(record(0, 1, 1))
    assert roster.epochs == 1
    roster.update(0, target=3)
    assert roster.epochs == 3
    roster.begin(0)
    roster.update(0, reports={1: 0.1, 2: 0.2})
    roster.halt(0)
    assert roster.epochs == 3
    roster.update(0, end="failed")
    assert roster.epochs == 2


def test_a_trial_that_was_pruned_and_is_taken_back_is_among_the_best_again():
    roster = Roster(Rungs((1, 3, 9), 3))
    for number in range(3):
        roster.put(record(number, 1, 1))
    assert list(roster.rungs.best()) == [2, 1, 0] and next(roster.rungs.promotable()) == 2
    roster.update(2, end="pruned")
    assert list(roster.rungs.best()) == [1, 0] and next(roster.rungs.promotable()) == 1
    roster.update(2, end=None)
    assert list(roster.rungs.best()) == [2, 1, 0] and next(roster.rungs.promotable()) == 2


def test_known_are_trials_at_a_rung_and_those_in_training():
    roster = Roster(Rungs((1, 3), 3))
    for number, (epochs, end) in enumerate([(1, None), (1, "failed"), (0, None), (0, None), (3, "complete"), (1, "pruned")]):
        roster.put(record(number, epochs, 1, end))
    roster.begin(2)
    assert [trial.expected for trial in roster.known()] == [0.0, None, 4.0, 5.0]


def test_a_promoted_trial_in_training_is_known_by_its_expected_score():
    roster = Roster(Rungs((1, 3), 3))
    roster.put(record(1, 1, 3))
    roster.begin(1)
    assert [trial.expected for trial in roster.known()] == [1.0]


def test_a_trial_that_ended_before_the_first_rung_is_known_by_its_best():
    roster = Roster(Rungs((9,), 3))
    roster.put(TrialRecord(0, {}, 9, {1: 0.5, 2: 0.4}, "complete", None))
    assert [trial.expected for trial in roster.known()] == [0.5]


def test_of_many_trials_the_best_and_the_latest_are_known(monkeypatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 10)
    roster = Roster(Rungs((1, 3), 3))
    for number in range(30):
        roster.put(TrialRecord(number, {"number": number}, 1, {1: float(-number)}, None, None))
    assert [trial.parameters["number"] for trial in roster.known()] == [0, 1, 2, 3, 4, 25, 26, 27, 28, 29]


steps = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["begin", "halt", "report", "promote", "complete", "pruned", "failed", "restore"]),
    ),
    max_size=60,
)


@given(steps)
def test_sets_and_sum_are_those_of_a_walk_over_all_trials(taken):
    roster = Roster(Rungs((1, 3), 3))
    for number in range(6):
        roster.put(record(number, 0, 1))
    for number, step in taken:
        facts = roster.records[number]
        if step == "begin" and facts.end is None:
            roster.begin(number)
        elif step == "halt":
            roster.halt(number)
        elif step == "report" and facts.epochs < facts.target:
            roster.update(number, reports={**facts.reports, facts.epochs + 1: float(number % 3)})
        elif step == "promote":
            roster.update(number, target=3)
        elif step in ("complete", "pruned", "failed") and facts.end is None and number not in roster.live:
            roster.update(number, end=step)
        elif step == "restore" and number not in roster.live:
            roster.update(number, end=None)
    facts = list(roster.records.values())
    at_rest = [f for f in facts if f.number not in roster.live and f.end is None]
    assert roster.paused == {f.number for f in at_rest if f.epochs >= f.target}
    assert roster.interrupted == {f.number for f in at_rest if f.epochs < f.target}
    begun = roster.live | roster.interrupted
    assert roster.epochs == sum(f.target if f.number in begun else f.epochs for f in facts)
    reached = {f.number: max((level for level in (1, 3) if level in f.reports), default=0) for f in facts}
    left = [f for f in facts if reached[f.number] and f.end not in ("pruned", "failed")]
    ranked = sorted(left, key=lambda f: (-roster.expected(f.number), -reached[f.number], -(f.number % 3), f.number))
    assert list(roster.rungs.best()) == [f.number for f in ranked]
