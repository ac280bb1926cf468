"""Small CSV tables, read strictly: every fault is collected with its file and line."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hpa_search.errors import nearest


class Row(NamedTuple):
    """One row of a table: the line of the file on which it starts (1 is the header) and its values."""

    line: int
    values: tuple[str, ...]


def read_table(path: Path, columns: Sequence[str], faults: list[str], *, optional: str | None = None) -> list[Row] | None:
    """Return the rows of a UTF-8 CSV file with a header, each with the values of ``columns`` in that order.

    The value of the column ``optional`` comes after them, in every row, if the header has it. Other columns and blank
    lines are passed over. Each fault is added to ``faults`` as one line that names the file and its line. Returns None
    where the file as a whole is no such table: it is missing, not text, or lacks a column. A row with too few or too many
    values is a fault and is left out.
    """
    text = _read_text(path, faults)
    if text is None:
        return None
    records = _parse(path.name, text, faults)
    if records is None:
        return None
    if not records:
        faults.append(f"{path.name}: is empty; expected a header '{','.join(columns)}'")
        return None
    header, *rows = records
    if optional is not None and optional in header.values:
        columns = (*columns, optional)
    places = _places(path.name, header.values, columns, faults)
    return None if places is None else _select(path.name, len(header.values), rows, places, faults)


def _read_text(path: Path, faults: list[str]) -> str | None:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        faults.append(f"{path.name}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8 text")
        return None
    except OSError as error:
        faults.append(f"{path.name}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}")
        return None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        faults.append(f"{path.name}, line {line}: a NUL byte; this is no text file")
        return None
    return text


def _parse(name: str, text: str, faults: list[str]) -> list[Row] | None:
    """Split CSV text into its rows, blank lines left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, start = [], 1
    try:
        for values in reader:
            if values:
                rows.append(Row(start, tuple(values)))
            start = reader.line_num + 1
    except csv.Error as error:
        faults.append(f"{name}, line {start}: cannot be read as CSV ({error})")
        return None
    return rows


def _places(name: str, header: Sequence[str], columns: Sequence[str], faults: list[str]) -> list[int] | None:
    """Return where each of ``columns`` stands in the header."""
    known = len(faults)
    for column in columns:
        if column not in header:
            faults.append(f"{name}, line 1: no column '{column}' in the header '{','.join(header)}'{nearest(column, header)}")
        elif header.count(column) > 1:
            faults.append(f"{name}, line 1: column '{column}' appears more than once in the header")
    return [header.index(column) for column in columns] if len(faults) == known else None


def _select(name: str, width: int, rows: list[Row], places: list[int], faults: list[str]) -> list[Row]:
    """Keep the values at ``places`` of each row that is ``width`` values long."""
    chosen = []
    for line, values in rows:
        if len(values) == width:
            chosen.append(Row(line, tuple(values[place] for place in places)))
        else:
            faults.append(f"{name}, line {line}: {len(values)} values where the header has {width}")
    return chosen
