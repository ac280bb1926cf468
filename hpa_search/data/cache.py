"""Make the folders of a shared cache once; each appears whole."""

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
    """Make the folder ``path`` unless ``is_ready``.

    ``build`` fills a new folder, which is then renamed to ``path``. One of several processes builds; the others wait. The
    kernel frees the lock when its process ends. The next process clears what a killed one left. If ``build`` raises, only the
    empty lock file stays. Raises UserError where the cache cannot be written.
    """
    if is_ready():
        return
    with refusing(path.parent, option=CACHE, doing="the image cache cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Lock(path.with_name(f".{path.name}.lock")):
            if not is_ready():  # another process may have built it during the wait
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
    """Make ``folder``/pixels.npy, uint8 of ``shape``, and yield its writer.

    The writer writes one row; threads may share it. The file is on the disk when the block ends. Raises UserError at once if
    the disk has no room for it. Raises OSError where a write fails.
    """
    needed = int(np.prod(shape, dtype=np.int64))
    if (free := shutil.disk_usage(folder).free) < needed:
        raise UserError(
            f"{folder.parent}: the image cache needs {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free; make room "
            f"there, or choose a place on another disk with {CACHE}"
        )
    path = folder / "pixels.npy"
    start = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).offset
    row_bytes = needed // shape[0]
    with path.open("r+b") as file:
        # Not through the memory map: on a full disk, that kills the process instead of raising.
        yield lambda row, image: _write_at(file.fileno(), image, start + row * row_bytes)
        os.fsync(file.fileno())


def _write_at(descriptor: int, image: np.ndarray, offset: int) -> None:
    left = image.tobytes()
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
