"""Test-time augmentation in the final stage: what the best entries of a pool say by the eight views of each image."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpa_search.bundle.predict import network_logits
from hpa_search.config import TestTime
from hpa_search.finish.material import Material
from hpa_search.finish.pool import Pool
from hpa_search.scoring.final import FinalChoice


def under_views(material: Material, choice: FinalChoice, tta: TestTime, say: Callable[[str], None]) -> Pool:
    """Return the entries of the material's pool that are worth a second look, with their logits under ``tta``.

    Those are the ones that ``choice`` would take if it might take twice as many, and the best single one. They judge the
    rows anew, because thresholds have to be fitted to what the members will say in use.
    """
    pool = material.pool
    wide = replace(choice, max_members=2 * choice.max_members)
    weights = wide(pool.logits, material.labels(pool.rows)).weights
    entries = sorted({*np.flatnonzero(weights).tolist(), pool.best_single})
    say(f"Judging {len(pool.rows)} images by their eight views, with {len(entries)} of {len(pool.networks)} candidates.")
    material.obtain(entries)
    chosen = pool.only(entries)
    return replace(chosen, logits=np.stack([_judge_anew(material, chosen, entry, tta) for entry in range(len(entries))]))


def _judge_anew(material: Material, pool: Pool, entry: int, tta: TestTime) -> NDArray[np.float32]:
    """Return the logits (n, 28) of an entry on the pool's rows, each by the network that was not trained on it."""
    provenance, logits = material.provenance, np.empty_like(pool.logits[entry])
    for place, candidate in enumerate(pool.networks[entry]):
        mine = pool.judge == place
        logits[mine] = network_logits(
            candidate.config, candidate.weights, provenance.mean, provenance.std, material.images, pool.rows[mine], tta
        )
    return logits
