"""Read small CSV tables and collect every fault with its line."""

import contextlib
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hpa_search.data.faults import missing
from hpa_search.errors import nearest
from hpa_search.kinds import START, foreign


class Row(NamedTuple):
    """The values of one row, and the line where it starts (1 is the header)."""

    line: int
    values: tuple[str, ...]


def read_table(path: Path, columns: Sequence[str], faults: list[str], *, optional: str | None = None) -> list[Row] | None:
    """Return the rows of a UTF-8 CSV file with a header.

    Each row has the values of ``columns``, in that order. The column ``optional`` comes last, if the header has it. Other
    columns and blank lines are skipped. A fault adds to ``faults`` a line with the file and its line. A row with too few or
    too many values is a fault. It is left out. Returns None if the file is missing, is not text, or lacks a column.
    """
    records = read_records(path, columns, faults)
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


def read_records(path: Path, columns: Sequence[str], faults: list[str]) -> list[Row] | None:
    """Return all rows of a UTF-8 CSV file, split at its `separator`.

    Blank lines are skipped. The first row has no spaces around its values. Returns None, and adds a fault, if the file is not
    text or not CSV.
    """
    text = _read_text(path, faults)
    if text is None:
        return None
    records = _parse(path.name, text, separator(text, columns), faults)
    if records:
        records[0] = Row(records[0].line, tuple(value.strip() for value in records[0].values))
    return records


def separator(text: str, columns: Sequence[str]) -> str:
    """Return the mark between a table's columns: ',', ';' or a tab.

    The first that gives the header one of ``columns`` wins, else ','. An Excel that writes numbers as "0,5" separates by ';'.
    """
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    with contextlib.suppress(csv.Error):  # `_parse` reports it
        for mark in (",", ";", "\t"):
            if not set(columns).isdisjoint(name.strip() for name in next(csv.reader([header], delimiter=mark), [])):
                return mark
    return ","


def encoding_fault(data: bytes) -> str | None:
    """Say why ``data`` is not a UTF-8 table, or return None.

    The text says where, and what to do.
    """
    if data and (kind := foreign(data[:START])):
        return f"is {kind.what}; {kind.remedy or 'export it as CSV'}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8 text; save the table as UTF-8 (Excel: 'CSV UTF-8')"
    return f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a NUL byte; this is not a text file" if "\0" in text else None


def _read_text(path: Path, faults: list[str]) -> str | None:
    try:
        data = path.read_bytes()
    except OSError as error:
        faults.append(f"{path.name}: {missing(path) if isinstance(error, FileNotFoundError) else error.strerror}")
        return None
    if (fault := encoding_fault(data)) is not None:
        faults.append(f"{path.name}{', ' if fault.startswith('line ') else ': '}{fault}")
        return None
    return data.decode("utf-8-sig")


def _parse(name: str, text: str, mark: str, faults: list[str]) -> list[Row] | None:
    """Split CSV text at ``mark`` into its rows, without blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
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
    """Return the position of each of ``columns`` in the header; None after a fault."""
    known = len(faults)
    for column in columns:
        if column not in header:
            faults.append(f"{name}, line 1: no column '{column}' in the header '{','.join(header)}'{nearest(column, header)}")
        elif header.count(column) > 1:
            faults.append(f"{name}, line 1: column '{column}' appears more than once in the header")
    return [header.index(column) for column in columns] if len(faults) == known else None


def _select(name: str, width: int, rows: list[Row], places: list[int], faults: list[str]) -> list[Row]:
    """Keep the values at ``places`` of rows with ``width`` values.

    Other rows are faults.
    """
    chosen = []
    for line, values in rows:
        if len(values) == width:
            chosen.append(Row(line, tuple(values[place] for place in places)))
        else:
            faults.append(f"{name}, line {line}: {len(values)} values where the header has {width}")
    return chosen
