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
"""Fewer images than these are drawn sooner than a pool of processes starts."""

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
    """Write a phantom of ``images`` training images and ``test_images`` (default a fifth of them) into ``folder``.

    Written are ``train/`` and ``test/`` with 8-bit grey ``<Id>_{red,green,blue,yellow}.png`` of ``size`` x ``size`` px,
    ``train.csv`` (``Id,Target``), ``sample_submission.csv`` (``Id,Predicted``, all 0) and, which Kaggle keeps to itself,
    ``test_labels.csv`` (``Id,Target``) to score predictions with.

    Labels come at their real frequencies. ``lift`` raises the rare classes to at least that many training images each
    (below 1: that share of the images); the test images are lifted in proportion.
    The same arguments give the same bytes, whatever the number of processes ``workers`` (default: one a core). ``progress``
    is called with the images done and in all. Raises UserError for a folder that holds anything, for sizes or counts out
    of range, and where the disk refuses. What was begun is taken away again, whatever stopped it.
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
        told = _told(folder, error)  # which looks at what is there
        _clear(folder, was_there)
        if told is not None:
            raise told from None
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
    """Make ``folder``; one that holds anything of the user's is refused."""
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
    """Take away what was begun of a phantom, as far as the disk lets us; the folder too, unless it was there before."""
    for part in _FOLDERS:
        shutil.rmtree(folder / part, ignore_errors=True)
    with contextlib.suppress(OSError):
        for table in _TABLES:
            (folder / table).unlink(missing_ok=True)
        if not was_there:
            folder.rmdir()


def _told(folder: Path, error: BaseException) -> UserError | None:
    """Return the message for an error that is none of the program's own."""
    if isinstance(error, OSError):
        return refused(error, folder, option="FOLDER", doing="cannot write the phantom")
    if isinstance(error, BrokenExecutor):
        return UserError(f"{folder}: a process that drew images was killed, most likely for want of memory; free some")
    return None


def _jobs(folder: Path, number: int, size: int, lift: int, seed: tuple[int, int], strict: bool) -> list[_Job]:
    """Draw names and labels of one part of the phantom, in the order of its table: by name, as Kaggle has it."""
    rng = np.random.default_rng(seed)
    label_sets = draw_label_sets(number, lift, rng, strict)
    names = sorted(str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(number))
    parts = enumerate(zip(names, label_sets, strict=True))
    return [_Job(folder, name, labels, size, (*seed, index)) for index, (name, labels) in parts]


def _draw_all(jobs: Sequence[_Job], workers: int | None, progress: Callable[[int, int], None] | None) -> None:
    processes = _cores() if workers is None else workers
    tell = progress or (lambda done, total: None)
    tell(0, len(jobs))
    with contextlib.closing(_in_processes(jobs, processes)) as drawn:
        for done, _ in enumerate(drawn, start=1):
            tell(done, len(jobs))


def _cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(jobs: Sequence[_Job], processes: int) -> Generator[None, None, None]:
    """Write the images of ``jobs``, yielding after each; processes are spawned, since a fork may copy held locks."""
    if processes <= 1 or len(jobs) < FEW_IMAGES:
        yield from map(_write_image, jobs)
        return
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process of the terminal; the one that tidies up is to answer it.
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
    """Write the tables after all images, ``train.csv`` last: a phantom that has one is complete."""
    write_text(folder / "test_labels.csv", _table("Target", test))
    write_text(folder / "sample_submission.csv", "Id,Predicted\n" + "".join(f"{job.name},0\n" for job in test))
    write_text(folder / "train.csv", _table("Target", train))


def _table(column: str, jobs: Sequence[_Job]) -> str:
    rows = (f"{job.name},{' '.join(map(str, job.labels))}\n" for job in jobs)
    return f"Id,{column}\n" + "".join(rows)
