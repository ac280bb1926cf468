"""The image cache: a dataset is decoded once, into a memory map that all processes of a machine share.

    CACHE/<key>/        pixels.npy  uint8 (n, 4, H, H), channels red, green, blue, yellow
                        pack.json   the Ids of its rows
    CACHE/<key>-<px>/   the same at px x px, made from the former

The key is a hash. It covers the versions of decoder and format, and every file's name, size and modification time. A file
that changes but keeps its size and time goes unnoticed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL

from hpa_search.data.cache import make_once, pixels_file
from hpa_search.data.decode import common_size, decode_image
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import image_file
from hpa_search.data.resize import resize
from hpa_search.errors import UserError
from hpa_search.stains import COLOURS, NUM_STAINS
from hpa_search.storage.data_cache import usable
from hpa_search.system_errors import CACHE, Refused, hides_content, refused

FORMAT = 1
"""Raise it when the content of a pack changes, so that older packs are not reused."""
Progress = Callable[[int, int], None]
"""Called with the number of images done and the total."""


@dataclass(frozen=True, eq=False)
class PackedImages:
    """The images of one pack, as a read-only memory map.

    ``pixels`` is uint8 (n, 4, S, S); its row i is the image ``ids[i]``. Pickles as its path: another process on the machine
    opens the same map.
    """

    path: Path
    ids: tuple[str, ...]
    pixels: np.ndarray

    def __post_init__(self) -> None:
        n, size = len(self.ids), self.pixels.shape[-1]
        if self.pixels.dtype != np.uint8 or self.pixels.shape != (n, NUM_STAINS, size, size):
            raise ValueError(f"pixels are {self.pixels.dtype} {self.pixels.shape}; expected uint8 {(n, NUM_STAINS, size, size)}")

    def __reduce__(self) -> tuple[Callable[[Path], "PackedImages"], tuple[Path]]:
        return open_packed, (self.path,)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return int(self.pixels.shape[-1])

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Copy the images at ``rows`` (b,) into a new uint8 array (b, 4, S, S). Raises IndexError out of range."""
        return np.take(np.asarray(self.pixels), rows, axis=0)

    def at_size(self, px: int) -> "PackedImages":
        """Return the pack at ``px`` x ``px`` pixels.

        The first call makes it from the native pack. Raises UserError if the disk has no room for it. Raises ValueError for a
        size below 1.
        """
        if px == self.size:
            return self
        if px < 1:
            raise ValueError(f"size {px} px is below 1")
        native = self.path.with_name(self.path.name.partition("-")[0])
        if (source := open_packed(native)).size == px:
            return source
        return _ensure(native.with_name(f"{native.name}-{px}"), partial(_write_resized, source, px))


@dataclass(frozen=True)
class Source:
    """The images to pack: the files of each Id, one a channel, and their decoder.

    ``decode`` takes an image's files and its size in pixels. It returns uint8 (4, size, size) and no faults, or None and one
    line for each faulty file. With ``size`` None, images have the size of most files. ``kind`` names decoder and size in the
    key.
    """

    folder: Path
    ids: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    decode: Callable[[Sequence[Path], int | None], tuple[np.ndarray | None, list[str]]] = decode_image
    size: int | None = None
    kind: str = ""

    def common_size(self) -> int | None:
        """The size of all images in the pack; None where no header can be read."""
        return self.size or common_size([file for channels in self.files for file in channels])


def pack(
    folder: Path, ids: Sequence[str], cache: Path, progress: Progress | None = None, workers: int | None = None
) -> PackedImages:
    """Decode the images ``<Id>_<colour>.png`` of ``folder`` into a pack under ``cache``; see `pack_source`."""
    return pack_source(_kaggle(folder, ids), cache, progress, workers)


def pack_source(source: Source, cache: Path, progress: Progress | None = None, workers: int | None = None) -> PackedImages:
    """Decode all images of ``source`` into a pack under ``cache``.

    If the pack exists, it is opened instead. The first of several callers decodes; the others wait for it. It uses
    ``workers`` threads (default: one a core). A fault does not stop it. In the end, one DatasetFaults lists every image that
    is missing, damaged or refused. The cache then keeps no image. Raises UserError where the cache cannot be written.
    """
    if not source.ids:
        raise UserError(f"{source.folder}: no image to read")
    key = _key(source)
    if key is None:
        raise DatasetFaults(source.folder, _find_faults(source, progress, workers))
    packed = _ensure(usable(cache) / key, partial(_write_decoded, source, key, progress, workers))
    if packed.ids != source.ids:
        raise UserError(f"{packed.path}: holds other images than it should; delete it and try again")
    return packed


def open_packed(path: Path) -> PackedImages:
    """Open the pack at ``path``.

    Raises UserError if it is not a pack. Raises the subclass Refused where the system hides its content.
    """
    try:
        ids = tuple(json.loads((path / "pack.json").read_text(encoding="utf-8"))["ids"])
        return PackedImages(path, ids, np.load(path / "pixels.npy", mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError) as error:
        if hides_content(error):
            raise refused(error, path, option=CACHE, doing="the image cache cannot be read") from error
        raise UserError(f"{path}: not a readable image cache ({error}); delete it and try again") from error


def _ensure(path: Path, build: Callable[[Path], None]) -> PackedImages:
    """Open the pack at ``path``; ``build`` it first if needed."""
    make_once(path, lambda: _is_pack(path), build)
    return open_packed(path)


def _is_pack(path: Path) -> bool:
    try:
        open_packed(path)
    except Refused:
        raise
    except UserError:
        return False
    return True


def find_faults(
    folder: Path, ids: Sequence[str], progress: Progress | None = None, workers: int | None = None
) -> tuple[str, ...]:
    """Decode the images of ``folder`` without keeping them. Returns one line for each faulty file, in order."""
    return _find_faults(_kaggle(folder, ids), progress, workers)


def _find_faults(source: Source, progress: Progress | None, workers: int | None) -> tuple[str, ...]:
    size = source.common_size()
    return _collect(lambda row: source.decode(source.files[row], size)[1], len(source.ids), progress, workers)


def _kaggle(folder: Path, ids: Sequence[str]) -> Source:
    files = (tuple(folder / image_file(identifier, colour) for colour in COLOURS) for identifier in ids)
    return Source(folder, tuple(ids), tuple(files))


def _key(source: Source) -> str | None:
    """Hash the files' manifest; None if a file is missing."""
    digest = hashlib.sha256(f"format {FORMAT}, Pillow {PIL.__version__}{source.kind}\n".encode())
    try:
        for channels in source.files:
            for file in channels:
                found = file.stat()
                digest.update(os.fsencode(file.name) + f"\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    except OSError:
        return None
    return digest.hexdigest()[:32]


def _collect(work: Callable[[int], list[str]], count: int, progress: Progress | None, workers: int | None) -> tuple[str, ...]:
    """Run ``work`` on every row in threads and join its faults.

    Threads help: Pillow, reading and writing release the interpreter's lock. After an exception, such as a KeyboardInterrupt,
    no further row starts.
    """
    faults: list[str] = []
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        try:
            for done, found in enumerate(pool.map(work, range(count)), start=1):
                faults += found
                if progress is not None:
                    progress(done, count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tuple(faults)


def _write_decoded(source: Source, key: str, progress: Progress | None, workers: int | None, building: Path) -> None:
    """Decode all images into the folder ``building``."""
    size = source.common_size()
    # If no header can be read, every image is at fault and nothing is written: any size will do.
    shape = (len(source.ids), NUM_STAINS, size or 1, size or 1)

    with pixels_file(building, shape) as write:

        def work(row: int) -> list[str]:
            image, found = source.decode(source.files[row], size)
            if image is not None:
                write(row, image)
            return found

        faults = _collect(work, len(source.ids), progress, workers)
    if faults:
        raise DatasetFaults(source.folder, faults)
    # A file that changed meanwhile would leave pixels that do not belong to the key.
    if _key(source) != key:
        raise UserError(f"{source.folder}: its files changed while they were read; try again when nothing writes there")
    _write_ids(building, source.ids)


def _write_resized(source: PackedImages, px: int, building: Path) -> None:
    """Resize all images of ``source`` into the folder ``building``."""
    with pixels_file(building, (len(source), NUM_STAINS, px, px)) as write:

        def work(row: int) -> list[str]:
            write(row, resize(source.pixels[row : row + 1], px)[0])
            return []

        _collect(work, len(source), None, None)
    _write_ids(building, source.ids)


def _write_ids(building: Path, ids: Sequence[str]) -> None:
    (building / "pack.json").write_text(json.dumps({"format": FORMAT, "ids": list(ids)}), encoding="utf-8")
