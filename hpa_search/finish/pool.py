"""What an ensemble may be made of: networks, and what they say of images that they were not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.export import Candidate
from hpa_search.scoring.ensemble import best_first


@dataclass(frozen=True, eq=False)
class Pool:
    """Entries, each one network or one for each fold, and their logits on ``rows`` (n,) of the dataset.

    ``logits`` are float32 (m, n, 28); those of a row are by the network of the entry at ``judge`` (n,), which was not
    trained on it. The best on these rows is at the top: by the objective, or by macro AP where several searches are joined.
    ``classes`` are the label ids that macro AP averages, ``trained`` those with a positive among the images trained
    on, ``external`` the external images of the searches, by their names.
    """

    networks: tuple[tuple[Candidate, ...], ...]
    rows: NDArray[np.int64]
    judge: NDArray[np.int64]
    logits: NDArray[np.float32]
    classes: tuple[int, ...]
    trained: tuple[int, ...]
    external: dict[str, Any]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The first network of each entry: the one of the search."""
        return tuple(networks[0] for networks in self.networks)

    @property
    def scored(self) -> NDArray[np.int64]:
        """The labels that macro F1 is over: all 28, unless no candidate was trained for some."""
        return np.flatnonzero(self.covers.any(axis=0))

    @property
    def best_single(self) -> int:
        """The best entry of those that were trained for all labels that are scored.

        Where there is none (specialists for different labels), the first.
        """
        whole = np.flatnonzero(self.covers[:, self.scored].all(axis=1))
        return int(whole[0]) if len(whole) else 0

    @property
    def covers(self) -> NDArray[np.bool_]:
        """The classes (m, 28) that each entry was trained for."""
        return np.stack([candidate.covers for candidate in self.candidates])

    def only(self, entries: Sequence[int]) -> "Pool":
        """Return the pool of these entries, in this order."""
        return replace(self, networks=tuple(self.networks[i] for i in entries), logits=self.logits[list(entries)])


def joined(pools: Sequence[Pool]) -> Pool:
    """Return one pool of several on the same rows."""
    return replace(
        pools[0],
        networks=tuple(networks for pool in pools for networks in pool.networks),
        logits=np.concatenate([pool.logits for pool in pools]),
        classes=tuple(sorted({label for pool in pools for label in pool.classes})),
        trained=tuple(sorted({label for pool in pools for label in pool.trained})),
        external={name: images for pool in pools for name, images in pool.external.items()},
    )


def best_on_top(pool: Pool, labels: NDArray[np.bool_]) -> Pool:
    """Return the pool in the order of the entries' macro AP on its rows with ``labels`` (n, 28); an uncovered class ranks nothing."""
    masked = pool.logits * pool.covers[:, None, :]
    return pool.only(best_first(masked, labels, [label for label in pool.classes if labels[:, label].any()]).tolist())
