"""OUT/times.csv: where the slots' time went, a row for each epoch that was reported.

A row has the trial, the epoch, and the seconds of each part: waiting for the leg and its start (both only in a leg's first epoch),
waiting for images, training, evaluation, and the checkpoint with its way to an object store. Slots that wait for no further leg, trials
that fail, and epochs that are lost have no row.
"""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hpa_search.layout import TIMES

PARTS = ("waiting", "start", "data", "train", "evaluate", "checkpoint")
TRAINING = "train"


def parts_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each part of an epoch, by its reported metrics. Those that are not told are 0."""
    found = {name: float(metrics.get(f"{name}_seconds", 0.0)) for name in PARTS}
    found[TRAINING] = max(float(metrics.get("seconds", 0.0)) - found["data"] - found["evaluate"], 0.0)
    return found


def append_times(out: Path, number: int, epoch: int, parts: Mapping[str, float]) -> None:
    """Append the ``parts`` of an epoch of trial ``number``. A line that cannot be written is lost."""
    path = out / TIMES
    line = ",".join(map(str, (number, epoch, *(f"{parts[name]:.3f}" for name in PARTS))))
    with suppress(OSError), path.open("a+", encoding="utf-8") as file:
        if file.tell() == 0:
            file.write(",".join(("trial", "epoch", *PARTS)) + "\n")
        else:
            file.seek(file.tell() - 1)
            file.write("" if file.read(1) == "\n" else "\n")  # a killed driver left half a line
        file.write(line + "\n")


def read_times(out: Path) -> dict[str, float]:
    """Return the seconds of each part over all epochs; nothing of a search that has told none."""
    sums = dict.fromkeys(PARTS, 0.0)
    with suppress(OSError, UnicodeDecodeError, csv.Error), (out / TIMES).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            with suppress(TypeError, ValueError, KeyError):  # half a line
                values = {name: float(row[name]) for name in PARTS}
                sums = {name: sums[name] + values[name] for name in PARTS}
    return sums if any(sums.values()) else {}


def in_words(sums: Mapping[str, float]) -> str:
    """Return which share of the reported epochs' time each part took, the training first; empty if nothing is known.

    Not in it: slots that wait for no further leg, trials that failed, epochs that were lost.
    """
    total = sum(sums.values())
    if not total:
        return ""
    others = sorted((name for name in sums if name != TRAINING), key=lambda name: -sums[name])
    listed = ", ".join(f"{WORDS[name]} {sums[name] / total:.0%}" for name in others if sums[name] / total >= 0.005)
    rest = f" ({listed})" if listed else ""
    return f"Of the reported epochs' {total / 3600:.2f} slot hours {sums[TRAINING] / total:.0%} were training{rest}".replace(
        "%", " %"
    )


WORDS = {
    "waiting": "waiting for a leg",
    "start": "start of legs",
    "data": "waiting for images",
    "train": "training",
    "evaluate": "evaluation",
    "checkpoint": "checkpoints",
}
