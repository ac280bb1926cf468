import pytest

from hpa_search.ledger.ledger import TrialRecord
from hpa_search.search.account import Account
from hpa_search.search.roster import Roster
from hpa_search.search.rungs import Rungs
from hpa_search.space.settings import Budget


def account(budget, epochs=(), *, members=2, reserve=0.5, seconds=0.0, bounded=True):
    """Return the account of trials that have done so many epochs and wait; a later one is better."""
    roster = Roster(Rungs((1, 3, 9), 3))
    for number, done in enumerate(epochs):
        reports = {epoch: float(number) for epoch in range(1, done + 1)}
        roster.put(TrialRecord(number, {}, done, reports, "complete" if done == 9 else None, None))
    budget = budget.model_copy(update={"reserve": reserve})
    return Account(budget, roster, members=members, bounded=bounded, spent_seconds=lambda: seconds), roster


@pytest.mark.parametrize(
    ("epochs", "most"),
    [
        ((), 40),  # nobody lacks anything yet
        ((1,), 31),  # 1 is spent, and 8 are kept
        ((1, 1, 1), 21),  # of three trials two are members
        ((1, 9, 9), 21),  # 19 are spent, and the members are finished
        ((9, 1, 1), 21),  # the last are expected to be the best, and one of them may be finished
        ((3, 9), 22),
    ],
)
def test_what_members_lack_is_kept(epochs, most):
    opened, _ = account(Budget(epochs=40), epochs)
    assert opened.may_explore(most) and not opened.may_explore(most + 1)
    assert opened.holds(40 - sum(epochs)) and not opened.holds(41 - sum(epochs))


def test_no_more_are_finished_than_members_and_those_that_are_promoted():
    """Two were finished, and turned out worse than two others are expected to be. Of 27 at the rung below the top three are promoted."""
    finished = (9, 9)
    assert account(Budget(epochs=100), (*finished, 3, 3))[0].unfinished == []
    assert account(Budget(epochs=400), (*finished, *[3] * 25))[0].unfinished == [26, 25]
    assert account(Budget(epochs=100), (*finished, 3, 3), bounded=False)[0].unfinished == [3, 2]


def test_a_member_that_the_budget_cannot_finish_takes_no_place_from_one_that_it_can():
    """The best lacks 8 epochs of which 7 are left, the other lacks 6; only one may be finished, as a bad one was."""
    opened, roster = account(Budget(epochs=9 + 3 + 1 + 7), (9, 3, 1))
    assert opened.members == [2, 1] and opened.unfinished == [1]


def test_nothing_is_kept_for_a_member_that_cannot_be_finished_any_more():
    opened, _ = account(Budget(epochs=8), (1, 1))
    assert opened.may_explore(6) and not opened.may_explore(7)


def test_no_more_than_the_reserve_is_kept():
    opened, _ = account(Budget(epochs=40), (1, 1), reserve=0.1)
    assert opened.may_explore(34) and not opened.may_explore(35)


def test_the_promotion_of_a_member_comes_out_of_what_it_lacks():
    opened, _ = account(Budget(epochs=20), (1, 1), reserve=0.9)
    assert opened.may_explore(2, 0) and not opened.may_explore(3)


def test_a_member_in_training_lacks_what_lies_beyond_its_target():
    opened, roster = account(Budget(epochs=40), (1,))
    roster.update(0, target=3)
    roster.begin(0)
    assert opened.may_explore(40 - 3 - 6) and not opened.may_explore(40 - 3 - 5)


@pytest.mark.parametrize(("seconds", "reserved", "over"), [(1799, False, False), (1800, True, False), (3600, True, True)])
def test_the_last_share_of_the_hours_is_reserved(seconds, reserved, over):
    opened, _ = account(Budget(hours=1), seconds=seconds)
    assert (opened.in_reserved_hours, opened.out_of_time) == (reserved, over)
    assert opened.may_explore(10**6)


def test_without_a_reserve_nothing_is_kept():
    opened, _ = account(Budget(hours=1, epochs=40), (1, 1), reserve=0.0, seconds=3599)
    assert not opened.in_reserved_hours and opened.may_explore(38)
