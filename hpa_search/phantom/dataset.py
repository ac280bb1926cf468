"""The phantom: a synthetic atlas in the exact layout of the Kaggle download, for demos and tests.

Results on a phantom are never results on the Human Protein Atlas.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hpa_search.data.kaggle import image_file
from hpa_search.errors import UserError
from hpa_search.files import write_text
from hpa_search.phantom.image import draw_image
from hpa_search.phantom.labels import LabelSet, draw_label_sets
from hpa_search.stains import COLOURS
from hpa_search.system_errors import refused
from hpa_search.system_files import is_users_file

SIZES = range(32, 2049)
MOST_IMAGES = 1_000_000
FEW_IMAGES = 48
"""Fewer images than this are drawn before a pool of processes would have started."""

_FOLDERS = ("train", "test")
_TABLES = ("test_labels.csv", "sample_submission.csv", "train.csv")
_TRAIN, _TEST = 0, 1
_CHUNK = 8


@dataclass(frozen=True)
class _Job:
    """One image to draw; ``seed`` names its random stream."""

    folder: Path
    name: str
    labels: LabelSet
    size: int
    seed: tuple[int, ...]


def make_phantom(
    folder: Path,
    *,
    images: int,
    size: int,
    seed: int,
    lift: float = 0,
    test_images: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Write a phantom of ``images`` training images and ``test_images`` test images (default: a fifth) into ``folder``.

    ``train/`` and ``test/`` hold 8-bit grey ``<Id>_<colour>.png`` of ``size`` x ``size`` px. ``train.csv`` has ``Id,Target``.
    ``sample_submission.csv`` has ``Id,Predicted``, all 0. ``test_labels.csv`` has ``Id,Target`` to score predictions with;
    Kaggle keeps it to itself.

    Labels have their real frequencies. ``lift`` raises each rare class to at least that many training images. Below 1, it is
    a share of the images. The test images are lifted in proportion.

    The same arguments give the same bytes, with any number of processes ``workers`` (default: one a core). ``progress`` is
    called with the images done and the total. Raises UserError if ``folder`` is not empty, if a size or count is out of
    range, or if the disk refuses. After any failure or interrupt, everything written is deleted.
    """
    tests = max(1, round(images / 5)) if test_images is None else test_images
    _check(images, tests, size, seed, lift)
    wanted = round(lift * images) if lift < 1 else round(lift)
    train = _jobs(folder / "train", images, size, wanted, (seed, _TRAIN), strict=True)
    test = _jobs(folder / "test", tests, size, round(wanted * tests / images), (seed, _TEST), strict=False)
    try:
        was_there = folder.exists()
        _claim(folder)
    except OSError as error:
        raise refused(error, folder, option="FOLDER", doing="cannot make the folder") from None
    try:
        _draw_all(train + test, workers, progress)
        _write_tables(folder, train, test)
    except BaseException as error:
        explained = _explained(folder, error)  # before `_clear`: it looks at the folder
        _clear(folder, was_there)
        if explained is not None:
            raise explained from None
        raise


def _check(images: int, tests: int, size: int, seed: int, lift: float) -> None:
    if size not in SIZES:
        raise UserError(f"a phantom of {size} px images: the size must be from {SIZES[0]} to {SIZES[-1]} px")
    for count, what in ((images, "training"), (tests, "test")):
        if not 1 <= count <= MOST_IMAGES:
            raise UserError(f"a phantom of {count} {what} images: ask for 1 to {MOST_IMAGES:,}")
    if seed < 0:
        raise UserError(f"seed {seed}: a seed is 0 or more")
    if not 0 <= lift <= images:
        raise UserError(f"lift {lift}: give a number of images a class, at most {images}, or a share below 1")


def _claim(folder: Path) -> None:
    """Make ``folder``; refuse a folder that holds a user's files."""
    was_there = folder.exists()
    if was_there and not (folder.is_dir() and not any(is_users_file(path.name) for path in folder.iterdir())):
        raise UserError(f"{folder}: already there and not an empty folder; name a new one")
    try:
        for part in _FOLDERS:
            (folder / part).mkdir(parents=True)
    except OSError:
        _clear(folder, was_there)
        raise


def _clear(folder: Path, was_there: bool) -> None:
    """Delete what was written of a phantom, as far as the disk allows; keep ``folder`` if it was there before."""
    for part in _FOLDERS:
        shutil.rmtree(folder / part, ignore_errors=True)
    with contextlib.suppress(OSError):
        for table in _TABLES:
            (folder / table).unlink(missing_ok=True)
        if not was_there:
            folder.rmdir()


def _explained(folder: Path, error: BaseException) -> UserError | None:
    """Return the message for an error from outside the program; None for other errors."""
    if isinstance(error, OSError):
        return refused(error, folder, option="FOLDER", doing="cannot write the phantom")
    if isinstance(error, BrokenExecutor):
        return UserError(
            f"{folder}: a process that drew images was killed, probably because memory ran out; end other programs and try again"
        )
    return None


def _jobs(folder: Path, number: int, size: int, lift: int, seed: tuple[int, int], strict: bool) -> list[_Job]:
    """Draw names and labels of one part of the phantom, sorted by name as Kaggle's tables are."""
    rng = np.random.default_rng(seed)
    label_sets = draw_label_sets(number, lift, rng, strict)
    names = sorted(str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(number))
    parts = enumerate(zip(names, label_sets, strict=True))
    return [_Job(folder, name, labels, size, (*seed, index)) for index, (name, labels) in parts]


def _draw_all(jobs: Sequence[_Job], workers: int | None, progress: Callable[[int, int], None] | None) -> None:
    processes = _cores() if workers is None else workers
    report = progress or (lambda done, total: None)
    report(0, len(jobs))
    with contextlib.closing(_in_processes(jobs, processes)) as drawn:
        for done, _ in enumerate(drawn, start=1):
            report(done, len(jobs))


def _cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(jobs: Sequence[_Job], processes: int) -> Generator[None, None, None]:
    """Write the images of ``jobs``, yielding after each.

    Processes are spawned: a fork may copy held locks.
    """
    if processes <= 1 or len(jobs) < FEW_IMAGES:
        yield from map(_write_image, jobs)
        return
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process of the terminal; only the parent, which cleans up, may answer it.
    with ProcessPoolExecutor(processes, context, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            yield from pool.map(_write_image, jobs, chunksize=_CHUNK)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _write_image(job: _Job) -> None:
    planes = draw_image(job.labels, job.size, np.random.default_rng(job.seed))
    for colour, plane in zip(COLOURS, planes, strict=True):
        Image.fromarray(plane).save(job.folder / image_file(job.name, colour))


def _write_tables(folder: Path, train: Sequence[_Job], test: Sequence[_Job]) -> None:
    """Write the tables after all images, ``train.csv`` last: a phantom with a ``train.csv`` is complete."""
    write_text(folder / "test_labels.csv", _table("Target", test))
    write_text(folder / "sample_submission.csv", "Id,Predicted\n" + "".join(f"{job.name},0\n" for job in test))
    write_text(folder / "train.csv", _table("Target", train))


def _table(column: str, jobs: Sequence[_Job]) -> str:
    rows = (f"{job.name},{' '.join(map(str, job.labels))}\n" for job in jobs)
    return f"Id,{column}\n" + "".join(rows)
