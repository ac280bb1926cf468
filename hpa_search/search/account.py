"""What is left of a search's budget, and what of that is kept to finish members.

The final stage combines members that are trained to the top rung. Up to the share `reserve` of the epochs is kept for the
epochs that the members lack; all others are for exploring: for new trials and promotions. Of the hours, the last share
`reserve` is for finishing members first.
"""

from collections.abc import Callable

from hpa_search.search.roster import Roster
from hpa_search.space.settings import Budget


class Account:
    """Answers whether epochs may be spent.

    ``members`` is the number of trials to finish; the budget's ``reserve`` is kept for them. ``bounded`` says that no more trials
    than the promoted ones and so many are finished, though a member that is finished may turn out to be none. ``spent_seconds``
    returns the seconds spent of the budget's hours.
    """

    def __init__(
        self, budget: Budget, roster: Roster, *, members: int, bounded: bool, spent_seconds: Callable[[], float]
    ) -> None:
        self.budget = budget
        self._roster, self._members, self._bounded, self._spent_seconds = roster, members, bounded, spent_seconds

    @property
    def members(self) -> list[int]:
        """The trials that are expected to be the best at the top rung, the best first."""
        return self._roster.rungs.first(self._members)

    @property
    def unfinished(self) -> list[int]:
        """The members that lack epochs to the top rung, beside those that they may train, and may be finished with what is left."""
        lacking = [member for member in self.members if self._lacks(member) and self.holds(self._lacks(member))]
        return lacking[: max(self._members - self._roster.rungs.beyond_quota(), 0)] if self._bounded else lacking

    @property
    def out_of_time(self) -> bool:
        """Whether the budget's hours are spent."""
        return self._spent_share >= 1

    @property
    def in_reserved_hours(self) -> bool:
        """Whether the hours that are left are the reserve."""
        return self.budget.reserve > 0 and self._spent_share >= 1 - self.budget.reserve

    def holds(self, epochs: int) -> bool:
        """Return whether the budget holds ``epochs`` more."""
        return self.budget.epochs is None or self._roster.epochs + epochs <= self.budget.epochs

    def may_explore(self, epochs: int, trial: int | None = None) -> bool:
        """Return whether the budget holds ``epochs`` more, beside what is kept for the members.

        Give the ``trial`` that is to train them if it may be a member: it then lacks as many less.
        """
        if self.budget.epochs is None:
            return True
        lacking = sum(self._lacks(member) - (epochs if member == trial else 0) for member in self.unfinished)
        return self.holds(epochs + min(lacking, int(self.budget.reserve * self.budget.epochs)))

    def _lacks(self, number: int) -> int:
        """Return how many epochs a trial lacks to the top rung, beside those that it may train."""
        record = self._roster.records[number]
        return 0 if record.end is not None else self._roster.rungs.levels[-1] - max(record.target, record.epochs)

    @property
    def _spent_share(self) -> float:
        """The share of the budget's hours that is spent, 0 if it has none."""
        return 0.0 if self.budget.hours is None else self._spent_seconds() / (self.budget.hours * 3600)
