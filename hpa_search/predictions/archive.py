"""Read predictions from an .npz file: `ids`, `labels`, optional `groups`, and one array a model."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpa_search.errors import UserError
from hpa_search.kinds import kind_of
from hpa_search.labels import LABELS, NUM_LABELS

IDS, LABELLED, GROUPS, LABEL_NAMES = "ids", "labels", "groups", "label_names"

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_TEXT_OR_WHOLE = "UTSiu"


class Archive:
    """An .npz file, whose arrays are read on demand and never unpickled.

    ``ids`` are the names of the rows, and ``names`` those of the models. `predict --probabilities` writes such files, with a
    further array `label_names`. Raises UserError that names the file, the array and what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = self._open()
        arrays = self._file.files
        if IDS not in arrays:
            raise UserError(
                f"{path}: no array '{IDS}' with the names of the rows; it holds {', '.join(map(repr, arrays)) or 'nothing'}"
            )
        self.names = tuple(name for name in arrays if name not in (IDS, LABELLED, GROUPS, LABEL_NAMES))
        self.ids = tuple(self._words(IDS).tolist())
        if LABEL_NAMES in arrays and tuple(self._read(LABEL_NAMES).ravel().tolist()) != LABELS:
            raise UserError(
                f"{path}: array '{LABEL_NAMES}' is not the {NUM_LABELS} labels of this task in their order; bring all arrays to that order"
            )

    def labels(self) -> NDArray[Any] | None:
        """Return the array `labels` as it is, None without that array."""
        return self._read(LABELLED) if LABELLED in self._file.files else None

    def groups(self) -> NDArray[np.str_] | None:
        """Return the group (n,) of each row, None without that array.

        A row with an empty group is a group of its own.
        """
        if GROUPS not in self._file.files:
            return None
        groups = self._words(GROUPS)
        alone = np.array([f"(row {row})" for row in range(len(groups))])
        return np.where(groups == "", alone, groups)

    def values(self, name: str) -> NDArray[Any]:
        """Return the array of the model ``name`` as it is."""
        return self._read(name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> np.lib.npyio.NpzFile:
        try:
            kind = kind_of(self.path)
            if kind is not None and kind.remedy and kind.what != "a zip archive":
                raise UserError(f"{self.path}: cannot be read as .npz: it is {kind.what}; {kind.remedy}")
            file = np.load(self.path, allow_pickle=False)
        except _UNREADABLE as error:
            raise UserError(f"{self.path}: cannot be read as .npz ({_reason(error)}); write it with numpy.savez") from None
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise UserError(
                f"{self.path}: a single array, not an .npz file; write it with numpy.savez(file, ids=..., labels=..., NAME=...)"
            )
        return file

    def _read(self, name: str) -> NDArray[Any]:
        try:
            return np.asarray(self._file[name])
        except _UNREADABLE as error:
            pickled = "Object arrays" in str(error)
            remedy = "it holds objects, which only pickle reads; save numbers, or text as str" if pickled else "write it again"
            raise UserError(f"{self.path}: array '{name}' cannot be read ({_reason(error)}); {remedy}") from None

    def _words(self, name: str) -> NDArray[np.str_]:
        """Return an array (n,) of text or whole numbers as text."""
        found = self._read(name)
        if found.ndim != 1 or found.dtype.kind not in _TEXT_OR_WHOLE:
            raise UserError(
                f"{self.path}: array '{name}' is {found.dtype} of shape {found.shape}; "
                "expected text or a whole number for each row"
            )
        if found.dtype.kind != "S":
            return found.astype(np.str_)
        try:
            return np.char.decode(found, "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{self.path}: array '{name}' has bytes that are not UTF-8; save text, not bytes") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n")[0] or type(error).__name__
