"""Folders of a cache that several processes share: each is made once, and appears whole."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hpa_search.errors import UserError
from hpa_search.locks import Lock
from hpa_search.system_errors import CACHE, refusing


def make_once(path: Path, is_ready: Callable[[], bool], build: Callable[[Path], None]) -> None:
    """Make the folder ``path`` unless ``is_ready``: call ``build`` with a new folder, then rename that to ``path``.

    Of several processes one builds and the others wait. The lock is the kernel's and ends with its process; what a
    killed one has left is cleared by the next. If ``build`` raises, nothing is left but the empty lock file.
    Raises UserError where the cache cannot be written.
    """
    if is_ready():
        return
    with refusing(path.parent, option=CACHE, doing="the image cache cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Lock(path.with_name(f".{path.name}.lock")):
            if not is_ready():
                _replace(path, build)


def _replace(path: Path, build: Callable[[Path], None]) -> None:
    building = path.with_name(f".{path.name}.building")
    for old in (path, building):
        shutil.rmtree(old, ignore_errors=True)
    building.mkdir()
    try:
        build(building)
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def pixels_file(folder: Path, shape: tuple[int, int, int, int]) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Make ``folder``/pixels.npy, uint8 of ``shape``, and yield a function that writes one row; threads may share it.

    On leaving, the file is on the disk. Raises UserError at once where the disk has no room for it, and OSError
    where a write fails.
    """
    needed = int(np.prod(shape, dtype=np.int64))
    if (free := shutil.disk_usage(folder).free) < needed:
        raise UserError(
            f"{folder.parent}: the image cache needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; make room there, or "
            f"choose a place on another disk with {CACHE}"
        )
    path = folder / "pixels.npy"
    start = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).offset
    row_bytes = needed // shape[0]
    with path.open("r+b") as file:
        # Through the file and not through a memory map, which on a full disk kills the process instead of raising.
        yield lambda row, image: _write_at(file.fileno(), image, start + row * row_bytes)
        os.fsync(file.fileno())


def _write_at(descriptor: int, image: np.ndarray, offset: int) -> None:
    left = image.tobytes()
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
