"""What epochs took in earlier searches on this machine, kept in the cache."""

import csv
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from hpa_search.config import TrialConfig
from hpa_search.files import write_text
from hpa_search.ledger.ledger import TrialRecord
from hpa_search.plan.probe import shape
from hpa_search.space.search import Search
from hpa_search.training.job import trial_folder

FILE = "epochs.jsonl"
MOST_KEPT = 1000


@dataclass(frozen=True)
class Earlier:
    """A trial of an earlier search: its configuration, its device in words, and the seconds of an epoch for each training row."""

    config: TrialConfig
    device: str
    seconds_per_row: float


def remember(cache: Path, out: Path, search: Search, trials: Iterable[TrialRecord], rows: int) -> None:
    """Add the trials of the search in ``out`` to the cache; an epoch trains on ``rows`` rows.

    The oldest go when there are many. Raises OSError if the cache cannot be written.
    """
    lines = []
    for trial in trials:
        folder = trial_folder(out, trial.number)
        if seconds := _seconds(folder):
            config = search.trial_config(trial.parameters).model_dump(mode="json")
            # The first epoch of a trial warms up.
            per_row = median(seconds[1:] or seconds) / rows
            lines.append(json.dumps({"device": device_of(folder), "seconds_per_row": per_row, "config": config}))
    there = (cache / FILE).read_text(encoding="utf-8").splitlines() if (cache / FILE).is_file() else []
    write_text(cache / FILE, "\n".join([*there, *lines][-MOST_KEPT:]) + "\n")


def recall(cache: Path) -> tuple[Earlier, ...]:
    """Return what the cache holds. Lines of another version that cannot be read are left out."""
    found = []
    for line in (cache / FILE).read_text(encoding="utf-8").splitlines() if (cache / FILE).is_file() else []:
        try:
            held = json.loads(line)
            found.append(Earlier(TrialConfig.model_validate(held["config"]), held["device"], float(held["seconds_per_row"])))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    return tuple(found)


def epoch_like(earlier: Sequence[Earlier], config: TrialConfig, device: str, rows: int) -> float | None:
    """Return the median seconds of an epoch of ``rows`` rows of trials of the same shape on such a device, None without any."""
    alike = [one.seconds_per_row for one in earlier if one.device == device and shape(one.config) == shape(config)]
    return median(alike) * rows if alike else None


def device_of(folder: Path) -> str:
    """Return the device of the trial in ``folder`` in words, empty if it is not known."""
    path = folder / "device.txt"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _seconds(folder: Path) -> list[float]:
    """Return the seconds of each epoch of the trial in ``folder``, none if its metrics cannot be read."""
    with suppress(OSError, ValueError, KeyError), (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]
    return []
