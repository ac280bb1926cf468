"""The candidates for an ensemble, and their logits of unseen images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.scoring.ensemble import best_first


@dataclass(frozen=True, eq=False)
class Pool:
    """Entries, and their float32 logits (m, n, 28) on ``rows`` (n,) of the dataset.

    An entry is one network, or one network for each fold. Row i of its logits is by network ``predictor[i]``. That network
    was not trained on the row. The best entry is first. The objective ranks the entries of one search, and macro AP those of
    several. ``classes`` are the label ids that macro AP averages. ``trained`` are the label ids with a positive among the
    training images. ``external`` describes the external images of each search, by the search's name.
    """

    networks: tuple[tuple[Candidate, ...], ...]
    rows: NDArray[np.int64]
    predictor: NDArray[np.int64]
    logits: NDArray[np.float32]
    classes: tuple[int, ...]
    trained: tuple[int, ...]
    external: dict[str, Any]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The first network of each entry, which the search itself trained."""
        return tuple(networks[0] for networks in self.networks)

    @property
    def scored(self) -> NDArray[np.int64]:
        """The labels that any candidate was trained for: macro F1 averages these."""
        return np.flatnonzero(self.covers.any(axis=0))

    @property
    def best_single(self) -> int:
        """The best entry that was trained for every scored label; the first entry if none was."""
        whole = np.flatnonzero(self.covers[:, self.scored].all(axis=1))
        return int(whole[0]) if len(whole) else 0

    @property
    def covers(self) -> NDArray[np.bool_]:
        """The labels (m, 28) that each entry was trained for."""
        return np.stack([candidate.covers for candidate in self.candidates])

    def only(self, entries: Sequence[int]) -> "Pool":
        """Return a pool of ``entries``, in their order."""
        return replace(self, networks=tuple(self.networks[i] for i in entries), logits=self.logits[list(entries)])


def joined(pools: Sequence[Pool]) -> Pool:
    """Return one pool with the entries of all ``pools``. They are on the same rows."""
    return replace(
        pools[0],
        networks=tuple(networks for pool in pools for networks in pool.networks),
        logits=np.concatenate([pool.logits for pool in pools]),
        classes=tuple(sorted({label for pool in pools for label in pool.classes})),
        trained=tuple(sorted({label for pool in pools for label in pool.trained})),
        external={name: images for pool in pools for name, images in pool.external.items()},
    )


def best_on_top(pool: Pool, labels: NDArray[np.bool_]) -> Pool:
    """Return the pool in falling order of macro AP on its rows with ``labels`` (n, 28)."""
    # Equal scores rank nothing, so a label that an entry was not trained for counts neither for nor against it.
    masked = pool.logits * pool.covers[:, None, :]
    return pool.only(best_first(masked, labels, [label for label in pool.classes if labels[:, label].any()]).tolist())
