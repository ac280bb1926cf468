"""Test-time augmentation in the final stage: predictions by eight views of each image."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpa_search.config import TestTime
from hpa_search.finish.material import Material
from hpa_search.finish.pool import Pool
from hpa_search.scoring.final import FinalChoice


def under_views(material: Material, choice: FinalChoice, tta: TestTime, say: Callable[[str], None]) -> Pool:
    """Return a pool of the best entries with their logits under ``tta``.

    These are the best single entry, and those that ``choice`` takes with twice its ``max_members``. They predict the rows
    again, because thresholds have to fit the logits that the members give in use.
    """
    pool = material.pool
    wide = replace(choice, max_members=2 * choice.max_members)
    weights = wide(pool.logits, material.labels(pool.rows)).weights
    entries = sorted({*np.flatnonzero(weights).tolist(), pool.best_single})
    say(f"Predicting {len(pool.rows)} images by their eight views, with {len(entries)} of {len(pool.networks)} candidates.")
    material.obtain(entries)
    chosen = pool.only(entries)
    return replace(chosen, logits=np.stack([_predict_again(material, chosen, entry, tta) for entry in range(len(entries))]))


def _predict_again(material: Material, pool: Pool, entry: int, tta: TestTime) -> NDArray[np.float32]:
    """Return the logits (n, 28) of an entry on the pool's rows.

    Each row is predicted by the network that was not trained on it.
    """
    logits = np.empty_like(pool.logits[entry])
    for place, candidate in enumerate(pool.networks[entry]):
        mine = pool.predictor == place
        (logits[mine],) = material.predicts.logits([material.network(candidate)], "train", pool.rows[mine], tta)
    return logits
