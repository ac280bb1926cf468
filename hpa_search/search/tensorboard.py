"""TensorBoard scalars: one run a trial, under OUT/tensorboard/0007."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from hpa_search.search.agenda import Leg
from hpa_search.search.space import Search
from hpa_search.search.study import Facts

_NOT_SCALARS = {"epoch"}


class TensorBoard:
    """Writes each epoch's metrics as it is reported; the step is the epoch."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "tensorboard"
        self._writers: dict[int, SummaryWriter] = {}

    def resumed(self, trials: list[Facts], spent_seconds: float) -> None:
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

    def reported(self, number: int, metrics: dict[str, float]) -> None:
        """Write an epoch's scalars, and let a reader see them at once."""
        writer = self._writers[number]
        for name, value in metrics.items():
            if isinstance(value, int | float) and name not in _NOT_SCALARS:
                writer.add_scalar(name, value, global_step=int(metrics["epoch"]))
        writer.flush()

    def ended(self, number: int, state: str, why: str) -> None:
        """Close the trial's file; a trial that goes on gets another in the same run."""
        if (writer := self._writers.pop(number, None)) is not None:
            writer.close()
