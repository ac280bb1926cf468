"""What a long prediction has done so far, kept beside its output, so that after a kill it goes on where it was.

    .NAME.parts/00012-<key>.npy     the probabilities of one chunk of images, float64 (n, 28)

The key is a hash of the bundle, the images' names, sizes and modification times, and of how they are computed. A file
under another key is of other work and goes.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpa_search.data.kaggle import COLOURS, image_file
from hpa_search.errors import UserError
from hpa_search.files import whole
from hpa_search.labels import NUM_LABELS

FORMAT = 1


class Parts:
    """The parts of the prediction that will be written to ``out``; ``keys`` has one for each chunk, None where it has none."""

    def __init__(self, out: Path, keys: Sequence[str | None]) -> None:
        self.folder = out.with_name(f".{out.name}.parts")
        self._paths = [None if key is None else self.folder / f"{index:05d}-{key}.npy" for index, key in enumerate(keys)]
        wanted = {path.name for path in self._paths if path is not None}
        try:
            for path in self.folder.iterdir() if self.folder.exists() else ():
                if path.name not in wanted:
                    path.unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    def read(self, chunk: int, rows: int) -> NDArray[np.float64] | None:
        """Return the probabilities (rows, 28) of ``chunk``, None where they are not there as they should be."""
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
        """Keep the ``probabilities`` (n, 28) of ``chunk``. Raises UserError where that cannot be written."""
        path = self._paths[chunk]
        if path is None:
            return
        try:
            with whole(path) as temporary, temporary.open("wb") as file:
                np.save(file, probabilities, allow_pickle=False)
        except OSError as error:
            raise self._unwritable(error) from None

    def remove(self) -> None:
        """Remove everything, once the output is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"{self.folder}: cannot be written ({error.strerror}); make room, or give another --out")


def chunk_key(computed: str, folder: Path, ids: Sequence[str]) -> str | None:
    """Return the key of the images ``ids`` of ``folder``; ``computed`` says by what and how. None where a file is missing."""
    digest = hashlib.sha256(f"parts {FORMAT}\n{computed}\n".encode())
    try:
        for name in (image_file(identifier, colour) for identifier in ids for colour in COLOURS):
            found = (folder / name).stat()
            digest.update(os.fsencode(name) + f"\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    except OSError:
        return None
    return digest.hexdigest()[:32]
