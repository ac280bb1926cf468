"""The names under which scalars stand in TensorBoard, and its first page. The part before the slash is the group."""

from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from torch.utils.tensorboard import summary

from hpa_search.ledger.times import PARTS
from hpa_search.training.score import CLASS_F1

TAGS = {
    "objective": "objective",
    "train_loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "validation_loss": "validation/loss",
    "seconds": "system/seconds_per_epoch",
    "images_per_second": "system/images_per_second",
}
"""The tags of an epoch's metrics. Those that are not named here are scores of the validation rows."""
SEARCH = "search"
"""The run of what belongs to all trials. Its steps are the epochs done by all of them, or minutes."""
BEST_BY_EPOCHS, BEST_BY_MINUTES = "search/best_objective_by_epochs", "search/best_objective_by_minutes"
RUNNING, BEGUN = "search/trials_running", "search/trials_begun"
BUSY = "search/share_of_slot_time_in_training"
GAIN, RESULT = "search/ensemble_gain", "search/macro_f1"
_NOT_SCALARS = {"epoch", *(f"{part}_seconds" for part in PARTS)}
_LAYOUT = {
    "Search": {
        "best objective so far, by epochs of all trials": ["Multiline", [BEST_BY_EPOCHS]],
        "best objective so far, by minutes": ["Multiline", [BEST_BY_MINUTES]],
        "trials": ["Multiline", [RUNNING, BEGUN]],
        "training's share of the reported epochs' slot time": ["Multiline", [BUSY]],
    },
    "Trials": {
        "objective": ["Multiline", ["^objective$"]],
        "macro F1": ["Multiline", ["^validation/macro_f1"]],
        "validation loss": ["Multiline", ["^validation/loss$"]],
        "training loss": ["Multiline", ["^train/loss$"]],
    },
}


def run_of(number: int) -> str:
    """Return the name of a trial's run."""
    return f"{number:04d}"


def tag(metric: str) -> str:
    """Return the tag of a metric of an epoch."""
    return TAGS.get(metric, metric if metric.startswith(CLASS_F1) else f"validation/{metric}")


def part_tag(part: str) -> str:
    """Return the tag of the seconds of a part of an epoch, see `ledger.times`."""
    return f"system/seconds/{part}"


def best_tag(metric: str) -> str:
    """Return the tag of a metric at the trial's best epoch so far, by the objective."""
    return f"best/{metric}"


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of an epoch that are numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and name not in _NOT_SCALARS}


def of_scalars(values: Mapping[str, float]) -> Summary:
    """Return one summary of scalars by tag. It takes half the time of one for each."""
    return Summary(value=[value for name, scalar in values.items() for value in summary.scalar(name, scalar).value])


def layout() -> Summary:
    """Return the page `Custom Scalars`: what matters first."""
    return summary.custom_scalars(_LAYOUT)
