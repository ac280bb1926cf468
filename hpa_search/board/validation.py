"""What TensorBoard shows of the validation rows: precision and recall of each class, the worst mistakes, labels confused."""

import io
import logging
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import Queue
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from torch.utils.tensorboard import summary

from hpa_search.board.events import EventFiles
from hpa_search.board.tags import run_of
from hpa_search.data.packed import PackedImages
from hpa_search.figures.confusion import confusion
from hpa_search.figures.pictures import sheet
from hpa_search.figures.predictions import Predictions
from hpa_search.labels import NUM_LABELS, to_vector
from hpa_search.ledger.ledger import TrialRecord
from hpa_search.scoring.rules import cross_fitted
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.space.search import Search

THRESHOLDS = 101
FOLDS = 5
MOST_CURVES, MOST_PICTURES = 500, 100
"""How many legs a driver shows by curves, and how many of them by pictures: 35 MB and 25 MB."""
BEST = 20
"""Pictures are of legs that end among the best so many."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Rows:
    """The validation rows: their ``ids``, ``labels`` (n, 28) and ``groups`` (n,), the ``images`` to show, and the labels' ``names``."""

    ids: tuple[str, ...]
    labels: NDArray[np.bool_]
    groups: NDArray[np.str_] | None
    images: PackedImages
    names: tuple[str, ...]


class ValidationBoard:
    """Writes what a trial says about the validation rows, after its leg.

    Precision and recall of each class are shown of complete trials, and at each rung but the first, where most trials stay. Mistakes and
    labels confused are pictures: they are shown of those of these that are among the best so far. Both have a limit, so that a search of
    any length stays small.

    ``logits`` returns those of a trial at an epoch (n, 28), or None if they cannot be read. A thread of its own draws: figures take
    a second, in which slots would wait. What it has not drawn when the driver ends is not drawn later.
    """

    def __init__(
        self, events: EventFiles, search: Search, rows: Rows, logits: Callable[[int, int], NDArray[np.floating] | None]
    ) -> None:
        self._events, self._rungs, self._rows, self._logits = events, search.rungs, rows, logits
        self._labels = np.ones(NUM_LABELS, dtype=bool) if search.labels is None else to_vector(search.labels)
        self._reports: dict[int, EpochReport] = {}
        self._best: list[float] = []
        """The objectives of the best that were shown, ascending."""
        self._curves, self._pictures = 0, 0
        self._waiting: Queue[tuple[int, int, bool] | None] = Queue()
        self._thread = Thread(target=self._work, name="board", daemon=True)
        self._thread.start()

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Do nothing: earlier drivers have shown their trials."""

    def extended(self, search: Search) -> None:
        """Do nothing: the rungs are the same."""

    def started(self, leg: Leg) -> None:
        """Do nothing: the trial has no new epoch."""

    def reported(self, number: int, report: EpochReport) -> None:
        """Note how far the trial is."""
        self._reports[number] = report

    def ended(self, number: int, state: str, why: str) -> None:
        """Show a trial that stands at a rung above the first, or is complete."""
        report = self._reports.pop(number, None)
        if report is None or state == "failed" or self._curves >= MOST_CURVES:
            return
        if state == "complete" or report.epoch in self._rungs[1:]:
            self._curves += 1
            self._waiting.put((number, report.epoch, self._is_among_the_best(report.objective)))

    def drain(self) -> None:
        """Wait until all has been drawn."""
        self._waiting.put(None)
        self._thread.join()

    def _is_among_the_best(self, objective: float) -> bool:
        if self._pictures >= MOST_PICTURES or (len(self._best) == BEST and objective <= self._best[0]):
            return False
        insort(self._best, objective)
        self._best, self._pictures = self._best[-BEST:], self._pictures + 1
        return True

    def _work(self) -> None:
        while (next_one := self._waiting.get()) is not None:
            self._show(*next_one)

    def _show(self, number: int, epoch: int, in_pictures: bool) -> None:
        try:
            logits, rows, seen = self._logits(number, epoch), self._rows, self._labels
            if logits is None or logits.shape != rows.labels.shape:
                return
            logits, predicted = logits.astype(np.float32), np.zeros_like(rows.labels)
            predicted[:, seen] = cross_fitted(
                logits[:, seen], rows.labels[:, seen], folds=FOLDS, seed=0, groups=rows.groups, fill=bool(seen.all())
            )
            found = Predictions(rows.ids, rows.labels, expit(logits), predicted).only(seen)
            self._events.write(run_of(number), *shown(found, rows.names, rows.images if in_pictures else None), step=epoch)
        except Exception as error:  # what is shown must not end what is trained
            logger.debug("the figures of a trial could not be drawn", exc_info=True)
            logger.warning("trial %d: its validation rows could not be shown in TensorBoard: %s", number, error)


def shown(predictions: Predictions, names: tuple[str, ...], images: PackedImages | None) -> Iterable[Summary]:
    """Return the curves of the classes with a positive, and with ``images`` the pictures too."""
    for label in np.flatnonzero(predictions.labels.any(axis=0)):
        yield summary.pr_curve(
            f"precision_recall/{names[label]}", predictions.labels[:, label], predictions.probabilities[:, label], THRESHOLDS
        )
    if images is not None:
        yield _picture("mistakes/worst", sheet(images, predictions, predictions.worst(), names))
        yield _picture("mistakes/labels_confused", confusion(predictions.confused, names, "png"))


def _picture(tag: str, content: bytes) -> Summary:
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    picture = Summary.Image(encoded_image_string=content, height=height, width=width, colorspace=3)
    return Summary(value=[Summary.Value(tag=tag, image=picture)])
