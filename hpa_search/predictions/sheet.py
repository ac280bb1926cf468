"""Read predictions from a CSV file: `Id`, optional `Target` and `Group`, and 28 columns for each model.

The columns of a model are NAME_0 ... NAME_27. `data.tables.separator` finds the separator: an Excel set to Europe writes ';',
and "0,5" for 0.5.
"""

import csv
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hpa_search.data.tables import encoding_fault, separator
from hpa_search.errors import UserError, nearest
from hpa_search.labels import NUM_LABELS, parse_target, to_vector

ID, TARGET, GROUP = "Id", "Target", "Group"

_OF_A_MODEL = re.compile(r"(.+)_(0|[1-9]\d*)", re.DOTALL)


class Sheet:
    """A CSV file in memory, with the methods of `archive.Archive`.

    Target holds label ids such as "16 0", and is empty for a row without a label. A row with an empty Group is a group of its
    own. Raises UserError that names the file, the column and the row's Id, and what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header, self._mark = _header(path)
        self.names = _models(path, header)
        self._table = _read(path, header, self._mark)
        self.ids = tuple(self._table[ID].tolist())

    def labels(self) -> NDArray[Any] | None:
        """Return the labels (n, 28), None without a column Target."""
        if TARGET not in self._table:
            return None
        return np.array([self._vector(row, target) for row, target in enumerate(self._table[TARGET])]).reshape(-1, NUM_LABELS)

    def groups(self) -> NDArray[np.str_] | None:
        """Return the group (n,) of each row, None without a column Group."""
        if GROUP not in self._table:
            return None
        # Prefixes, because a group may have the name of an Id whose row is a group of its own.
        pairs = zip(self.ids, self._table[GROUP], strict=True)
        return np.array([f"group {group}" if group.strip() else f"row {identifier}" for identifier, group in pairs])

    def values(self, name: str) -> NDArray[Any]:
        """Return the numbers (n, 28) of the model ``name``."""
        return np.stack([self._numbers(f"{name}_{c}") for c in range(NUM_LABELS)], axis=1)

    def close(self) -> None:
        """Free the table."""
        del self._table

    def _vector(self, row: int, target: str) -> NDArray[np.bool_]:
        try:
            return to_vector(parse_target(target) if target.strip() else ())
        except ValueError as error:
            raise UserError(f"{self.path}: {TARGET} of Id '{self.ids[row]}': {error}") from None

    def _numbers(self, column: str) -> NDArray[Any]:
        found = self._table[column]
        if found.dtype.kind in "iuf":
            return found.to_numpy()
        text = found.astype(str)
        # A file with another separator than ',' may have decimal commas.
        numbers = pd.to_numeric(text if self._mark == "," else text.str.replace(",", "."), errors="coerce").to_numpy(
            dtype=np.float64
        )
        if (wrong := np.isnan(numbers)).any():
            row = int(wrong.argmax())
            raise UserError(f"{self.path}: {column} of Id '{self.ids[row]}' is {text.iloc[row]!r}; expected a number")
        return numbers


def _header(path: Path) -> tuple[list[str], str]:
    """Return the columns of a file and their separator."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), "")
            mark = separator(first, (ID,))
            header = [column.strip() for column in next(csv.reader([first], delimiter=mark, strict=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from None
    twice = sorted({column for column in header if header.count(column) > 1}) if len(set(header)) < len(header) else []
    if twice:
        raise UserError(f"{path}: column '{twice[0]}' appears more than once in the header; keep one")
    if ID not in header:
        raise UserError(f"{path}: no column '{ID}' in the header '{','.join(header)[:80]}'{nearest(ID, header)}")
    return header, mark


def _models(path: Path, header: list[str]) -> tuple[str, ...]:
    """Return the models of a header in their order. Raises UserError unless each has its 28 columns."""
    found: dict[str, set[int]] = {}
    for column in header:
        if column in (ID, TARGET, GROUP):
            continue
        parts = _OF_A_MODEL.fullmatch(column)
        if parts is None or int(parts[2]) >= NUM_LABELS:
            raise UserError(
                f"{path}: column '{column}' is not {ID}, {TARGET} or {GROUP}, nor NAME_0 ... NAME_{NUM_LABELS - 1} of a model"
                f"{nearest(column, (ID, TARGET, GROUP))}"
            )
        found.setdefault(parts[1], set()).add(int(parts[2]))
    for name, classes in found.items():
        if lacking := sorted(set(range(NUM_LABELS)) - classes):
            raise UserError(f"{path}: model '{name}' lacks the column(s) {', '.join(f'{name}_{c}' for c in lacking)}; add them")
    return tuple(found)


def _read(path: Path, header: list[str], mark: str) -> pd.DataFrame:
    text = {ID: str, TARGET: str, GROUP: str}
    try:
        with warnings.catch_warnings():
            # pandas only warns about rows that are longer than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=mark,
                names=header,
                header=0,
                dtype=text,
                index_col=False,
                na_filter=False,
                low_memory=False,
                encoding="utf-8-sig",
            )
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) else str(error).strip()
    if isinstance(error, UnicodeDecodeError):
        reason = encoding_fault(path.read_bytes()) or reason
    return UserError(f"{path}: cannot be read as CSV ({reason}); expected a header with {ID} and as many values in each row")
