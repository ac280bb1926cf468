"""What a suggestion knows of a trial."""

from collections.abc import Mapping
from dataclasses import dataclass

from hpa_search.config import Value


@dataclass(frozen=True)
class Known:
    """A trial's parameters, and its expected scores at the top rung, by the index of the rung whose score each comes from.

    The lowest rung first. A trial that trains to its first rung has none.
    """

    parameters: Mapping[str, Value]
    scores: dict[int, float]

    @property
    def expected(self) -> float | None:
        """The expected score by the highest rung, if there is one."""
        return next(reversed(self.scores.values()), None)
