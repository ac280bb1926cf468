"""What a network or an ensemble says about some images, and where it is wrong."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hpa_search.labels import NUM_LABELS

MOST_MISTAKES = 12
MOST_NAMED = 4
"""The number of predicted labels that a caption names."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The images ``ids`` with their true ``labels``, and the ``probabilities`` and ``predicted`` labels; each is (n, 28)."""

    ids: tuple[str, ...]
    labels: NDArray[np.bool_]
    probabilities: NDArray[np.floating]
    predicted: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = (len(self.ids), NUM_LABELS)
        assert self.labels.shape == self.probabilities.shape == self.predicted.shape == shape

    def only(self, labels: NDArray[np.bool_]) -> Self:
        """Return the same with the ``labels`` (28,) alone: of the others, no image has one, and none is predicted."""
        chances = np.where(labels, self.probabilities, 0.0)
        return replace(self, labels=self.labels & labels, probabilities=chances, predicted=self.predicted & labels)

    @property
    def confused(self) -> NDArray[np.int64]:
        """How often label j was predicted in error where label i was missed, (28, 28). The diagonal is 0."""
        missed = self.labels & ~self.predicted
        wrong = self.predicted & ~self.labels
        return missed.astype(np.int64).T @ wrong.astype(np.int64)

    def worst(self, most: int = MOST_MISTAKES) -> NDArray[np.int64]:
        """Return the rows with the most confident mistakes, the worst first.

        The confidence of a missed label is 1 minus its probability, that of a wrong label its probability. A row counts by its most
        confident mistake.
        """
        chance = np.where(self.labels, 1 - self.probabilities, self.probabilities)
        confidence = np.where(self.predicted != self.labels, chance, -1.0).max(axis=1)
        order = np.argsort(-confidence, kind="stable")
        return order[confidence[order] >= 0][:most].astype(np.int64)

    def in_words(self, row: int, names: tuple[str, ...]) -> tuple[str, str]:
        """Return the true labels of a row, and the predicted ones, the likeliest of these with their probabilities."""
        true = ", ".join(names[label] for label in np.flatnonzero(self.labels[row])) or "none"
        chances = self.probabilities[row]
        said = sorted(np.flatnonzero(self.predicted[row]), key=lambda label: -chances[label])
        listed = ", ".join(f"{names[label]} ({chances[label]:.2f})" for label in said[:MOST_NAMED]) or "none"
        return true, listed + (f" and {len(said) - MOST_NAMED} more" if len(said) > MOST_NAMED else "")
