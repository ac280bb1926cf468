"""How cost grows: the exponent of each part's time in the number of images, trials, candidates or rows.

    python tests/benchmarks/growth.py

An exponent of 1 is proportional growth. It is fitted by least squares on logarithms, from the three sizes of each part; the median of
three runs counts, where a run takes less than 10 s. Exits with 1 if one is above 1.1.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from decisions import SPACE, decide
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from rich.console import Console
from rich.table import Table
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from hpa_search.board.events import FOLDER, EventFiles
from hpa_search.board.runs import TensorBoard
from hpa_search.data.packed import PackedImages, pack
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import read_status
from hpa_search.phantom.dataset import make_phantom
from hpa_search.scoring.final import FinalChoice
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.space.parsing import parse_search
from hpa_search.training.score import METRICS

MOST = 1.1
ENOUGH_SECONDS = 10
Work = Callable[[], object]
Make = Callable[[Path, int], Work]
"""Prepares a size in a folder, and returns what is timed."""


def packing(folder: Path, size: int) -> Work:
    make_phantom(folder / "data", images=size, size=32, seed=0, lift=1)
    ids = [path.name.removesuffix("_green.png") for path in sorted((folder / "data/train").glob("*_green.png"))]
    caches = iter(range(100))
    return lambda: pack(folder / "data/train", ids, folder / f"cache{next(caches)}")


def gathering(folder: Path, size: int) -> Work:
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=(size, 4, 32, 32))
    pixels[:] = 7
    images = PackedImages(folder, tuple(map(str, range(size))), pixels)
    order = np.random.default_rng(0).permutation(size)
    return lambda: [images.gather(rows) for rows in np.array_split(order, size // 32)]


def deciding(folder: Path, size: int) -> Work:
    def run() -> None:
        storage = InMemoryStorage()
        ledger = Ledger(storage, storage.create_new_study([StudyDirection.MAXIMIZE], "growth"), "memory")
        search = parse_search(SPACE, "growth").model_copy(update={"sampler": "random"})
        agenda = Agenda(search, ledger, slots=8, spent_seconds=lambda: 0.0)
        decide(agenda, lambda: len(agenda.trials) < size)

    return run


def status(folder: Path, size: int) -> Work:
    ledger = Ledger.create(folder, "growth")
    agenda = Agenda(
        parse_search(SPACE, "growth").model_copy(update={"sampler": "random"}), ledger, slots=8, spent_seconds=lambda: 0.0
    )
    decide(agenda, lambda: len(agenda.trials) < size)
    return lambda: read_status(folder)


def written(folder: Path, size: int) -> None:
    search = parse_search(SPACE, "growth")
    board = TensorBoard(EventFiles(folder), search)
    board.resumed([], lambda: 0.0)
    metrics = {"objective": 0.5, "seconds": 1.0, **dict.fromkeys(METRICS, 0.5), **{f"f1/{label}": 0.5 for label in range(28)}}
    for number in range(size):
        board.started(Leg(number, number, {"learning_rate": 0.01, "weight_decay": 0.001}, 0, 3))
        for epoch in (1, 2, 3):
            board.reported(number, EpochReport.of({"epoch": epoch, **metrics}))
        board.ended(number, "pruned", "it is over")


def writing(folder: Path, size: int) -> Work:
    folders = iter(range(100))
    return lambda: written(folder / str(next(folders)), size)


def reading(folder: Path, size: int) -> Work:
    written(folder, size)
    return lambda: EventMultiplexer().AddRunsFromDirectory(str(folder / FOLDER)).Reload()


def choosing(members: int | None, rows: int | None) -> Make:
    def make(folder: Path, size: int) -> Work:
        rng, shape = np.random.default_rng(0), (members or size, rows or size)
        labels = rng.random((shape[1], 28)) < np.geomspace(0.4, 0.002, 28)
        logits = (rng.normal(size=(*shape, 28)) + 2.0 * labels).astype(np.float32)
        return lambda: FinalChoice(classes=tuple(range(28)))(logits, labels)

    return make


PARTS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "images decoded and packed": (packing, (250, 1000, 4000)),
    "images gathered, an epoch": (gathering, (1000, 10_000, 100_000)),
    "trials decided": (deciding, (100, 1000, 10_000)),
    "trials told by status": (status, (100, 1000, 4000)),
    "trials written for TensorBoard": (writing, (30, 100, 300)),
    "trials read by TensorBoard": (reading, (30, 100, 300)),
    "candidates chosen from, 2,000 rows": (choosing(None, 2000), (12, 25, 50)),
    "rows chosen on, 20 candidates": (choosing(20, None), (1000, 5000, 25_000)),
}


def seconds(work: Work) -> float:
    taken: list[float] = []
    while len(taken) < 3 and sum(taken) < ENOUGH_SECONDS:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> int:
    table, steep = Table("what grows", "sizes", "seconds", "exponent"), []
    for what, (make, sizes) in PARTS.items():
        found = []
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                found.append(seconds(make(Path(folder), size)))
        exponent = float(np.polyfit(np.log(sizes), np.log(found), 1)[0])
        steep += [what] if exponent > MOST else []
        table.add_row(what, ", ".join(f"{size:,}" for size in sizes), ", ".join(f"{one:.3g}" for one in found), f"{exponent:.2f}")
    Console(width=120).print(table)
    print(f"above {MOST}: {', '.join(steep)}" if steep else f"none above {MOST}")
    return 1 if steep else 0


if __name__ == "__main__":
    sys.exit(main())
