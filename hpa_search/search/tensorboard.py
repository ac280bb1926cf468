"""TensorBoard scalars: one run for each trial, such as OUT/tensorboard/0007."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter, summary

from hpa_search.errors import UserError
from hpa_search.ledger.ledger import TrialRecord
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.space.search import Search
from hpa_search.storage.opened import every, opened
from hpa_search.storage.place import Location

FOLDER = "tensorboard"
REFRESH_SECONDS = 15.0
"""Seconds between two fetches of the files of a search in an object store."""
_NOT_SCALARS = {"epoch"}


class TensorBoard:
    """Writes each epoch's metrics as it is reported; the step is the epoch."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._writers: dict[int, SummaryWriter] = {}

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Do nothing: the files of earlier drivers are there."""

    def extended(self, search: Search) -> None:
        """Do nothing: a budget is not a scalar."""

    def started(self, leg: Leg) -> None:
        """Open the trial's run and write its parameters."""
        if leg.number not in self._writers:
            self._writers[leg.number] = SummaryWriter(str(self._folder / f"{leg.number:04d}"))
        if leg.reported == 0:
            lines = "\n".join(f"    {name}: {value}" for name, value in leg.parameters.items())
            self._writers[leg.number].add_text("parameters", lines, global_step=0)

    def reported(self, number: int, report: EpochReport) -> None:
        """Write an epoch's scalars, and flush them for readers."""
        metrics = report.metrics.items()
        scalars = {name: value for name, value in metrics if isinstance(value, int | float) and name not in _NOT_SCALARS}
        values = [value for name, scalar in scalars.items() for value in summary.scalar(name, scalar).value]
        # One event for all scalars takes half the time of an event each.
        writer = self._writers[number]
        writer._get_file_writer().add_summary(Summary(value=values), report.epoch)
        writer.flush()

    def ended(self, number: int, state: str, why: str) -> None:
        """Close the trial's file. A resumed trial gets another file in the same run."""
        if (writer := self._writers.pop(number, None)) is not None:
            writer.close()


def serve(out: Location, cache: Path, port: int, say: Callable[[str], None] = print) -> int:
    """Serve TensorBoard on the trials of the search in ``out`` until it is stopped; return TensorBoard's exit code.

    Files in an object store are fetched into ``cache``, again every few seconds. Raises UserError if there is nothing to show.
    """
    with opened(out, cache, f"{FOLDER}/", say=say) as work:
        folder = work.folder / FOLDER
        if not folder.is_dir():
            raise UserError(f"{folder}: nothing to show; give the --out of a `hpa-search run`")
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
        with every(REFRESH_SECONDS, lambda: work.fetch(f"{FOLDER}/"), say):
            return subprocess.call(command)
