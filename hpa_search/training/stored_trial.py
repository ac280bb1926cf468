"""A trial whose folder lies in an object store: trained in a local mirror, and pushed before an epoch counts.

The store keeps the order of `checkpoint`. Files that a checkpoint refers to arrive before it; superfluous files go after it.
So the trial resumes from its last reported epoch, at whatever instant its worker or the network stops.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from hpa_search.storage.mirror import Mirror
from hpa_search.storage.naming import naming
from hpa_search.storage.opened import mirror_folder
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store
from hpa_search.training.checkpoint import CHECKPOINT, TakenOverError
from hpa_search.training.score import Metrics
from hpa_search.training.trainer import Trainer

ORDER = (("weights/*", "logits.npz"), (CHECKPOINT,), ())
DELETES = ("weights/*",)


class StoredTrial:
    """A trainer in a mirror, made by `open_stored`.

    When `run_epoch` returns in the ``first`` worker, the epoch is in the store.
    """

    def __init__(self, trainer: Trainer, mirror: Mirror, held: ExitStack, first: bool) -> None:
        self._trainer, self._mirror, self._held, self._first = trainer, mirror, held, first

    @property
    def history(self) -> Sequence[Metrics]:
        """The metrics of epochs 1, 2, ... in order. All of them are in the store."""
        return self._trainer.history

    def run_epoch(self) -> Metrics:
        """Train one epoch, save it in the store, and return its metrics.

        Raises TakenOverError, and the errors of `Trainer.run_epoch` and `Mirror.push`.
        """
        with naming(self._mirror.folder, self._mirror.store.place):
            metrics, began = self._trainer.run_epoch(), time.perf_counter()
            if not self._first:
                return metrics
            if not self._mirror.knows(CHECKPOINT):
                raise TakenOverError(
                    f"{self._mirror.store.place / CHECKPOINT} was written by another worker, which continues this trial"
                )
            self._mirror.push()
        pushed = time.perf_counter() - began
        return {**metrics, "checkpoint_seconds": metrics["checkpoint_seconds"] + pushed}

    def close(self) -> None:
        """Free the trainer's memory, and remove the mirror."""
        self._held.close()


def open_stored(place: Place, cache: Path, open_local: Callable[[Path], Trainer], *, first: bool = True) -> StoredTrial:
    """Open the trial at ``place``. ``open_local`` opens its mirror, a folder below ``cache``, like any folder.

    Of several workers on one trial, only the ``first`` writes. Each has a mirror of its own. They open their trainers
    together, so that all have fetched before the first one pushes.

    Raises the errors of `open_local` and `Mirror`. A UserError names ``place``.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(mirror_folder(cache, place))
        mirror = Mirror(Store(place), folder, order=ORDER, deletes=DELETES)
        with naming(folder, place):
            mirror.fetch()
            trainer = open_local(folder)
            stack.callback(trainer.close)
            if first:
                mirror.push()  # the settled folder, and device.txt
        return StoredTrial(trainer, mirror, stack.pop_all(), first)
