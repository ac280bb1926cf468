"""Split rows into training, validation and test.

The parts have similar labels, and groups stay whole. The algorithm is iterative stratification: Sechidis, Tsoumakas and
Vlahavas 2011, "On the stratification of multi-label data", in the package iterative-stratification. It works on groups. A
group has every label of its images, and its size as a further label. The algorithm counts every group as one. So a group that
fills much of a part is placed first, by size.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from iterstrat.ml_stratifiers import IterativeStratification
from sklearn.utils import check_random_state

from hpa_search.data.faults import DatasetFaults
from hpa_search.data.tables import Row, read_table
from hpa_search.errors import UserError
from hpa_search.files import whole
from hpa_search.rounding import SHARES, settled, sum_fault

PARTS = ("train", "validation", "test")
LARGE = 0.05
"""A group with more rows than this share of the smallest part is placed by its size."""
NO_FOLD = "-1"
"""The fold of test rows in split.csv, where the other rows are in folds."""
_FOLDS = frozenset(map(str, range(-1, 1000)))


Method = Literal["stratified", "random"]


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts of a dataset's rows; only ``test`` may be empty.

    They are sorted int arrays without a common row. ``fold`` (n,) is the fold of each row, -1 in test. It is None for a split
    without folds. With folds, validation is one of them.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fold: np.ndarray | None = None

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        for name, rows in zip(PARTS, parts, strict=True):
            if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or np.any(np.diff(rows) <= 0) or np.any(rows < 0):
                raise ValueError(f"{name} rows are not a sorted array of distinct row numbers")
        together = np.concatenate(parts)
        if len(np.unique(together)) != len(together):
            raise ValueError("the parts of the split have rows in common")
        if not len(self.train) or not len(self.validation):
            raise ValueError(f"{len(self.train)} training and {len(self.validation)} validation rows; both need at least one")
        if self.fold is not None:
            self._check_folds(self.fold)

    def _check_folds(self, fold: np.ndarray) -> None:
        numbers = np.unique(fold[fold >= 0])
        if not np.array_equal(numbers, np.arange(len(numbers))):
            raise ValueError(f"the folds {numbers.tolist()} are not numbered from 0 without holes")
        if not (
            np.array_equal(self.test, np.flatnonzero(fold < 0))
            and np.array_equal(self.validation, np.flatnonzero(fold == self.judging))
            and len(fold) == sum(len(getattr(self, part)) for part in PARTS)
        ):
            raise ValueError("the folds are not those of the parts: test has none, and validation is one of them")

    @property
    def judging(self) -> int:
        """The number of the fold that is validation, in a split with folds."""
        assert self.fold is not None
        return int(self.fold[self.validation[0]])

    def judged_by(self, fold: int) -> "Split":
        """Return the same folds with ``fold`` as validation and the others as training. Test stays as it is."""
        assert self.fold is not None
        others = np.flatnonzero((self.fold >= 0) & (self.fold != fold))
        return Split(others, np.flatnonzero(self.fold == fold), self.test, self.fold)


def make_split(
    labels: np.ndarray,
    groups: Sequence[str] | None,
    fractions: tuple[float, float, float],
    seed: int,
    method: Method = "stratified",
) -> Split:
    """Split rows into training, validation and test parts of about ``fractions``.

    ``labels`` is bool (n, c). ``groups`` names each row's group; with None, each row is its own. The same arguments give the
    same split.

    `stratified` parts have similar labels. Groups are moved until a class in two groups is in training and validation. A
    class in three groups is in test too. No move takes another class from its part.

    Fractions such as three times 0.333 count as parts of their sum. Raises UserError if they do not add up to 1, or if
    training or validation has 0. Raises it also if there are fewer groups than parts.
    """
    if not (min(fractions[:2]) > 0 and fractions[2] >= 0):
        raise UserError(f"split fractions {fractions}: training and validation must be above 0, and none below 0")
    if total := sum_fault(fractions, SHARES):
        raise UserError(f"split fractions {fractions}: they must add up to 1, and add up to {total}")
    shares = np.array([share for share in fractions if share > 0])
    if sum_fault(fractions):
        shares /= shares.sum()
    part = _assign(labels, groups, shares, seed, method)
    return Split(*(np.flatnonzero(part == index) for index in range(len(PARTS))))


def fold_split(
    labels: np.ndarray, groups: Sequence[str] | None, test: float, k: int, seed: int, method: Method = "stratified"
) -> Split:
    """Put a share ``test`` of the rows aside and the others into ``k`` folds.

    Fold 0 is validation; the other folds are training. The other arguments are those of `make_split`. Raises UserError if
    ``k`` is below 2 or ``test`` is not in [0, 1). Raises it also if there are fewer groups than folds.
    """
    test = settled(test, 0.0)
    if not 0 <= test < 1:
        raise UserError(f"split fraction test {test}: must be at least 0 and below 1")
    apart = _assign(labels, groups, np.array([1 - test, test]), seed, method) if test else np.zeros(len(labels), dtype=int)
    rest = np.flatnonzero(apart == 0)
    fold = np.full(len(labels), -1)
    fold[rest] = folds(labels[rest], None if groups is None else np.asarray(groups)[rest].tolist(), k, seed, method)
    return Split(np.flatnonzero(fold > 0), np.flatnonzero(fold == 0), np.flatnonzero(apart), fold)


def folds(labels: np.ndarray, groups: Sequence[str] | None, k: int, seed: int, method: Method = "stratified") -> np.ndarray:
    """Return the fold 0..k-1 of each row, int (n,).

    Folds are made as `make_split` makes parts; groups stay whole. Raises UserError if ``k`` is below 2 or there are fewer
    groups than folds.
    """
    if k < 2:
        raise UserError(f"{k} folds: at least 2 are needed")
    return _assign(labels, groups, np.full(k, 1 / k), seed, method)


def write_split(path: Path, ids: Sequence[str], split: Split) -> None:
    """Write a split of all ``ids`` as CSV, in the dataset's order.

    Its columns are ``Id``, ``Split`` and, with folds, ``Fold``. Raises ValueError if a row is in no part.
    """
    names = np.full(len(ids), "", dtype=object)
    for name in PARTS:
        names[getattr(split, name)] = name
    if not all(names):
        raise ValueError("a row of the dataset is in no part of the split")
    with whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if split.fold is None:
            writer.writerow(("Id", "Split"))
            writer.writerows(zip(ids, names, strict=True))
        else:
            writer.writerow(("Id", "Split", "Fold"))
            writer.writerows(zip(ids, names, split.fold, strict=True))


def read_split(path: Path, ids: Sequence[str]) -> Split:
    """Read a split of exactly the images ``ids``, in any order.

    Raises DatasetFaults, a UserError that names the file and each faulty line. Faults of an Id: not in the dataset, named
    twice, or not named. Faults of a part: not train, validation or test, or empty. Faults of a Fold: not a number, or
    contradicting the part.
    """
    faults: list[str] = []
    rows = read_table(path, ("Id", "Split"), faults, optional="Fold") or []
    parts = _read_parts(path.name, rows, ids, faults)
    fold = _read_folds(path.name, rows, ids, faults) if not faults and len(rows[0].values) > 2 else None
    if faults:
        raise DatasetFaults(path, faults)
    train, validation, test = (np.flatnonzero(parts == index) for index in range(len(PARTS)))
    return Split(train, validation, test, fold)


def _read_parts(name: str, rows: Sequence[Row], ids: Sequence[str], faults: list[str]) -> np.ndarray:
    """Return the part of each of ``ids``; -1 where a fault prevents it."""
    places = {identifier: row for row, identifier in enumerate(ids)}
    parts = np.full(len(ids), -1)
    for line, (identifier, part, *_) in rows:
        if identifier not in places:
            faults.append(f"{name}, line {line}: Id '{identifier}' is not in the dataset")
        elif part not in PARTS:
            faults.append(f"{name}, line {line}: '{part}' is not a part; expected {', '.join(PARTS)}")
        elif parts[places[identifier]] >= 0:
            faults.append(f"{name}, line {line}: Id '{identifier}' is named twice")
        else:
            parts[places[identifier]] = PARTS.index(part)
    if not faults:
        left_out = [identifier for identifier, part in zip(ids, parts, strict=True) if part < 0]
        faults += [f"{name}: no row for Id '{identifier}' of the dataset" for identifier in left_out]
        faults += [f"{name}: no image is in {PARTS[part]}" for part in (0, 1) if part not in parts]
    return parts


def _read_folds(name: str, rows: Sequence[Row], ids: Sequence[str], faults: list[str]) -> np.ndarray:
    """Return the fold of each of ``ids``; ``rows`` name each once.

    The first validation row says which fold is validation.
    """
    judging = next(number for _, (_, part, number) in rows if part == "validation")
    found: dict[str, int] = {}
    for line, (identifier, part, number) in rows:
        if number not in _FOLDS:
            faults.append(f"{name}, line {line}: Fold '{number}' is not a whole number from -1 to {len(_FOLDS) - 2}")
        elif (number == NO_FOLD) != (part == "test"):
            faults.append(f"{name}, line {line}: Fold {number} in {part}; test rows, and only they, have the fold {NO_FOLD}")
        elif part != "test" and (number == judging) != (part == "validation"):
            faults.append(f"{name}, line {line}: Fold {number} in {part}, but validation is fold {judging}")
        else:
            found[identifier] = int(number)
    missing = set(range(max(found.values(), default=0))) - set(found.values())
    if missing and not faults:
        faults.append(f"{name}: no image is in fold {min(missing)}")
    return np.array([found.get(identifier, -1) for identifier in ids])


def _assign(labels: np.ndarray, groups: Sequence[str] | None, shares: np.ndarray, seed: int, method: Method) -> np.ndarray:
    """Return the part of each row, int (n,).

    Parts take ``shares`` of the rows, groups stay whole, and no part is empty.
    """
    members = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(members.max(initial=-1)) + 1
    if count < len(shares):
        raise UserError(f"{count} groups of images cannot be split into {len(shares)} parts; add images, or ask for fewer parts")
    held = np.zeros((count, labels.shape[1]), dtype=bool)
    np.logical_or.at(held, members, labels)
    sizes = np.bincount(members, minlength=count)
    random = check_random_state(seed)
    if method == "random":
        parts = _place_randomly(sizes, shares, random)
        _fill_empty(parts, sizes, len(shares))
        return parts[members]
    parts, wanted = _place_large(sizes, shares)
    order = random.permutation(np.flatnonzero(parts < 0))
    if len(order):
        features = np.hstack([held, _size_labels(sizes)])[order]
        parts[order] = IterativeStratification(features, wanted / wanted.sum(), random)
    _fill_empty(parts, sizes, len(shares))
    _spread_rare(parts, held, sizes, len(shares))
    return parts[members]


def _place_randomly(sizes: np.ndarray, shares: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Return the part of each group, at random.

    In random order, groups fill the first part to its share of the rows, then the next.
    """
    order = random.permutation(len(sizes))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    parts = np.empty(len(sizes), dtype=int)
    parts[order] = np.searchsorted(np.cumsum(shares)[:-1] * sizes.sum(), middle, side="right")
    return parts


def _place_large(sizes: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each large group, the largest first, to the part that lacks most rows.

    Returns the part of each group, -1 for the others. Returns also the rows (float) that each part still lacks.
    """
    wanted = shares * sizes.sum()
    parts = np.full(len(sizes), -1)
    large = np.flatnonzero(sizes > max(1.0, LARGE * wanted.min()))
    for group in large[np.argsort(-sizes[large], kind="stable")]:
        parts[group] = wanted.argmax()
        wanted[parts[group]] -= sizes[group]
    return parts, wanted.clip(min=1e-9)


def _size_labels(sizes: np.ndarray) -> np.ndarray:
    """Return the magnitudes of group sizes as further labels.

    Each power of two from 2 that occurs is a bool column, true for its groups.
    """
    magnitude = np.log2(sizes).astype(int)
    return magnitude[:, None] == np.unique(magnitude[magnitude > 0])[None, :]


def _fill_empty(parts: np.ndarray, sizes: np.ndarray, count: int) -> None:
    """Give each empty part the smallest group of the part with most groups, in place."""
    for empty in range(count):
        if not np.any(parts == empty):
            largest = np.flatnonzero(parts == np.bincount(parts).argmax())
            parts[largest[sizes[largest].argmin()]] = empty


def _spread_rare(parts: np.ndarray, held: np.ndarray, sizes: np.ndarray, count: int) -> None:
    """Move single groups, in place, to spread rare classes.

    A class of g groups shall be in each of the first g parts. The rarest class goes first. Stratification alone gives a class
    to the part that lacks most of it. With fractions .7 .15 .15, training gets both of two groups. Validation could not judge
    that class.
    """
    owners = held.sum(axis=0)
    for label in np.argsort(owners, kind="stable"):
        for part in range(min(count, int(owners[label]))):
            if not np.any(held[parts == part, label]):
                spare = [group for group in np.flatnonzero(held[:, label]).tolist() if _can_leave(group, parts, held, owners)]
                if spare:
                    parts[min(spare, key=lambda group: (sizes[group], held[group].sum()))] = part


def _can_leave(group: int, parts: np.ndarray, held: np.ndarray, owners: np.ndarray) -> bool:
    """Return whether the part of ``group`` can spare it.

    The part must keep a group, and every class that it should have.
    """
    others = (parts == parts[group]) & (np.arange(len(parts)) != group)
    should_have = held[group] & (owners > parts[group])
    return bool(others.any()) and bool(np.all(held[others].any(axis=0)[should_have]))
