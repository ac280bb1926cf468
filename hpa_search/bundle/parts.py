"""The finished chunks of a long prediction, which a killed one resumes from.

They are kept beside the output. If the output is a device, a pipe, or another process's file, they are kept in the cache.

    .NAME.parts/00012-<key>.npy     the probabilities of one chunk of images, float64 (n, 28).

The key is a hash. It covers the bundle, the images' names, sizes and modification times, and the way they are computed. A
file under another key belongs to other work and is removed.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpa_search.data.kaggle import image_file
from hpa_search.files import Destination, hidden_beside, whole
from hpa_search.labels import NUM_LABELS
from hpa_search.stains import COLOURS
from hpa_search.storage.data_cache import default_cache, usable
from hpa_search.system_errors import refusing
from hpa_search.system_files import is_system_file

FORMAT = 1
PARTS = "parts"
_PART = re.compile(r"\.?\d{5}-")


class Parts:
    """The finished chunks of the prediction for ``out``.

    ``keys`` has the key of each chunk. A chunk whose key is None is not kept. Raises UserError if the chunks cannot be kept.
    """

    def __init__(self, out: Path, keys: Sequence[str | None], cache: Path | None = None) -> None:
        self._out = out
        with self._refusing():
            self.folder = _folder(Destination.of(out), keys, cache)
        self._paths = [None if key is None else self.folder / f"{index:05d}-{key}.npy" for index, key in enumerate(keys)]
        wanted = {path.name for path in self._paths if path is not None}
        with self._refusing():
            for path in self.folder.iterdir() if self.folder.exists() else ():
                if path.name not in wanted and (_PART.match(path.name) or not is_system_file(path.name)):
                    path.unlink()

    def read(self, chunk: int, rows: int) -> NDArray[np.float64] | None:
        """Return the probabilities (rows, 28) of ``chunk``, None if they are missing or damaged."""
        path = self._paths[chunk]
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                found = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError):
            return None
        sound = found.dtype == np.float64 and found.shape == (rows, NUM_LABELS) and ((found >= 0) & (found <= 1)).all()
        return found if sound else None

    def write(self, chunk: int, probabilities: NDArray[np.float64]) -> None:
        """Keep the ``probabilities`` (n, 28) of ``chunk``. Raises UserError if they cannot be written."""
        path = self._paths[chunk]
        if path is None:
            return
        with self._refusing(), whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, probabilities, allow_pickle=False)

    def remove(self) -> None:
        """Remove all chunks, once the output is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _refusing(self) -> AbstractContextManager[None]:
        return refusing(self._out, option="--out", doing="what is predicted cannot be written")


def _folder(place: Destination, keys: Sequence[str | None], cache: Path | None) -> Path:
    """Return the folder of the chunks: beside a file, else in the cache under a hash of the keys."""
    if not place.stream:
        return hidden_beside(place.path, "parts")
    digest = hashlib.sha256("\n".join(map(str, keys)).encode()).hexdigest()[:16]
    return usable(cache or default_cache()).resolve() / PARTS / digest


def chunk_key(computed: str, folder: Path, ids: Sequence[str]) -> str | None:
    """Return the key of the images ``ids`` of ``folder``, None if a file is missing.

    ``computed`` names the bundle, the device and the precision.
    """
    digest = hashlib.sha256(f"parts {FORMAT}\n{computed}\n".encode())
    try:
        for name in (image_file(identifier, colour) for identifier in ids for colour in COLOURS):
            found = (folder / name).stat()
            digest.update(os.fsencode(name) + f"\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    except OSError:
        return None
    return digest.hexdigest()[:32]
