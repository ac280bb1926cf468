"""What training members on the other folds gives: a network for each fold, and predictions of every row by one that never saw it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.labels import NUM_LABELS


@dataclass(frozen=True, eq=False)
class FoldMembers:
    """Members, each as the networks that were trained without one of the folds.

    ``candidates`` (m members of k each) has at [i][f] member i trained without fold f; where f judged the search, that is
    the member itself. ``rows`` (n,) are all that are not test, in rising order, and ``fold`` (n,) is the fold of each.
    ``logits`` float32 (m, n, 28) are theirs, each row's by the network that was trained without its fold. ``kept`` (m,) are
    the places of these members among those that were asked for: one whose training failed on a fold is left out.
    """

    kept: tuple[int, ...]
    candidates: tuple[tuple[Candidate, ...], ...]
    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = len(self.candidates), len(self.rows), NUM_LABELS
        if self.logits.shape != shape or len(self.kept) != shape[0] or self.fold.shape != self.rows.shape:
            raise ValueError(f"{shape[0]} members ({self.kept}) and {shape[1]} rows do not go with logits {self.logits.shape}")
