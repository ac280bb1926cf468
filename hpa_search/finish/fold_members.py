"""Members that were trained on every fold, and their predictions of unseen rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.labels import NUM_LABELS


@dataclass(frozen=True, eq=False)
class FoldMembers:
    """Members of k networks each, one network for each fold.

    ``candidates[i][f]`` is member i trained without fold f. For the fold that judged the search it is the member itself.
    ``rows`` (n,) are all rows but the test rows, in rising order. ``fold`` (n,) is the fold of each row. ``logits`` are
    float32 (m, n, 28). Each row is predicted by the network trained without its fold. ``kept`` (m,) are the places of the
    members in the request. A member whose training failed on a fold is missing.
    Raises ValueError for shapes that do not fit.
    """

    kept: tuple[int, ...]
    candidates: tuple[tuple[Candidate, ...], ...]
    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    logits: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = len(self.candidates), len(self.rows), NUM_LABELS
        if self.logits.shape != shape or len(self.kept) != shape[0] or self.fold.shape != self.rows.shape:
            raise ValueError(f"{shape[0]} members ({self.kept}) and {shape[1]} rows do not fit logits {self.logits.shape}")
