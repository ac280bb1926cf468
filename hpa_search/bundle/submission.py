"""Write predictions: a submission, `Id,Predicted`, and probabilities.

A row of a submission is empty only if the bundle was trained for some labels.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpa_search.errors import UserError
from hpa_search.files import whole
from hpa_search.labels import LABELS, NUM_LABELS, to_target
from hpa_search.storage.place import Location


def write_submission(path: Path, ids: Sequence[str], labels: NDArray[np.bool_]) -> None:
    """Write ``labels``, bool (n, 28), of the images ``ids``. A row without a label has an empty field."""
    rows = ((identifier, to_target(row)) for identifier, row in zip(ids, labels, strict=True))
    _write_csv(path, ("Id", "Predicted"), rows)


def write_probabilities(path: Path, ids: Sequence[str], probabilities: NDArray[np.float64]) -> None:
    """Write ``probabilities`` (n, 28) of the images ``ids`` in the format that the ending of ``path`` names.

    .npz holds ``ids`` (n,), ``label_names`` (28,) and ``probabilities`` (n, 28), float64, readable without pickle. .csv has
    the columns Id, 0 ... 27, and nine digits. Raises UserError for another ending.
    """
    check_ending(path)
    if path.suffix == ".csv":
        numbers = ((identifier, *(f"{p:.9g}" for p in row)) for identifier, row in zip(ids, probabilities, strict=True))
        _write_csv(path, ("Id", *map(str, range(NUM_LABELS))), numbers)
        return
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, ids=np.array(ids, dtype=np.str_), label_names=np.array(LABELS), probabilities=probabilities)


def check_ending(path: Location) -> None:
    """Raise UserError unless `write_probabilities` knows the ending of ``path``."""
    if Path(path.name).suffix not in (".npz", ".csv"):
        raise UserError(f"{path}: probabilities are written as .npz or .csv; give --probabilities such a name")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
