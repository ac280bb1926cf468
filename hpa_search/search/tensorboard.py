"""TensorBoard scalars: one run a trial, under OUT/tensorboard/0007."""

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
"""Between two looks at what a search in an object store has written."""
_NOT_SCALARS = {"epoch"}


class TensorBoard:
    """Writes each epoch's metrics as it is reported; the step is the epoch."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._writers: dict[int, SummaryWriter] = {}

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None:
        """Nothing: what earlier drivers wrote is there."""

    def extended(self, search: Search) -> None:
        """Nothing: a budget is no scalar."""

    def started(self, leg: Leg) -> None:
        """Open the trial's run and write down its parameters."""
        if leg.number not in self._writers:
            self._writers[leg.number] = SummaryWriter(str(self._folder / f"{leg.number:04d}"))
        if leg.reported == 0:
            lines = "\n".join(f"    {name}: {value}" for name, value in leg.parameters.items())
            self._writers[leg.number].add_text("parameters", lines, global_step=0)

    def reported(self, number: int, report: EpochReport) -> None:
        """Write an epoch's scalars, and let a reader see them at once."""
        metrics = report.metrics.items()
        scalars = {name: value for name, value in metrics if isinstance(value, int | float) and name not in _NOT_SCALARS}
        values = [value for name, scalar in scalars.items() for value in summary.scalar(name, scalar).value]
        # One event for all scalars takes half the time of an event each.
        writer = self._writers[number]
        writer._get_file_writer().add_summary(Summary(value=values), report.epoch)
        writer.flush()

    def ended(self, number: int, state: str, why: str) -> None:
        """Close the trial's file; a trial that goes on gets another in the same run."""
        if (writer := self._writers.pop(number, None)) is not None:
            writer.close()


def serve(out: Location, cache: Path, port: int, say: Callable[[str], None] = print) -> int:
    """Serve TensorBoard on the trials of the search in ``out`` until it is stopped; return its exit code.

    What is in an object store is fetched by way of ``cache``, again every few seconds. Raises UserError where there is nothing.
    """
    with opened(out, cache, f"{FOLDER}/", say=say) as work:
        folder = work.folder / FOLDER
        if not folder.is_dir():
            raise UserError(f"{folder}: nothing to show; give the --out of a `hpa-search run`")
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
        with every(REFRESH_SECONDS, lambda: work.fetch(f"{FOLDER}/"), say):
            return subprocess.call(command)
