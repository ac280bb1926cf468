"""What TensorBoard shows of the validation rows: precision and recall of each class, the worst mistakes, labels confused."""

import io
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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

    Precision and recall of each class are shown at every rung but the first, which most trials never leave; mistakes and labels
    confused, which are pictures, at the end of a trial that was trained to the end. So a search of 1,000 trials stays small.

    ``logits`` returns those of a trial at an epoch (n, 28), or None if they cannot be read. A thread of its own draws: figures take
    a second, in which slots would wait.
    """

    def __init__(
        self, events: EventFiles, search: Search, rows: Rows, logits: Callable[[int, int], NDArray[np.floating] | None]
    ) -> None:
        self._events, self._rungs, self._rows, self._logits = events, search.rungs, rows, logits
        self._labels = np.ones(NUM_LABELS, dtype=bool) if search.labels is None else to_vector(search.labels)
        self._epochs: dict[int, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="board")

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Do nothing: earlier drivers have shown their trials."""

    def extended(self, search: Search) -> None:
        """Do nothing: the rungs are the same."""

    def started(self, leg: Leg) -> None:
        """Do nothing: the trial has no new epoch."""

    def reported(self, number: int, report: EpochReport) -> None:
        """Note how far the trial is."""
        self._epochs[number] = report.epoch

    def ended(self, number: int, state: str, why: str) -> None:
        """Show a trial that stands at a rung above the first, or has been trained to the end."""
        epoch = self._epochs.pop(number, 0)
        is_whole = state == "complete"
        if epoch and (is_whole or (epoch in self._rungs[1:] and state != "failed")):
            self._thread.submit(self._show, number, epoch, is_whole)

    def __enter__(self) -> "ValidationBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Wait until all has been written, unless an exception leaves the block."""
        self._thread.shutdown(wait=kind is None, cancel_futures=kind is not None)

    def _show(self, number: int, epoch: int, is_whole: bool) -> None:
        try:
            logits = self._logits(number, epoch)
            if logits is None or logits.shape != self._rows.labels.shape:
                return
            rows, logits = self._rows, logits.astype(np.float32)
            predicted = cross_fitted(logits, rows.labels, folds=FOLDS, seed=0, groups=rows.groups)
            found = Predictions(rows.ids, rows.labels, expit(logits), predicted).only(self._labels)
            self._events.write(run_of(number), *shown(found, rows.names, rows.images if is_whole else None), step=epoch)
        except Exception:  # what is shown must not end what is trained
            logger.warning("trial %d: its validation rows could not be shown in TensorBoard", number, exc_info=True)


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
