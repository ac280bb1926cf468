"""Training, validation and test rows, alike in their labels, with no group torn apart.

Stratification is iterative (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", as
in the package iterative-stratification) and works on whole groups: a group has the labels that any of its images
has, and its size as one label more. The algorithm counts every group as one, so groups that fill a good part of a
part by themselves are placed first, by size alone.
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
"""What split.csv says of test rows, where the others are in folds."""
_FOLDS = frozenset(map(str, range(-1, 1000)))


Method = Literal["stratified", "random"]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a dataset in three parts: sorted int arrays without a row in common; only ``test`` may be empty.

    ``fold`` (n,) is the fold of each row, -1 in test, where the split was made of folds: then validation is one of them.
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
        """The fold that is validation, of a split that was made of folds."""
        assert self.fold is not None
        return int(self.fold[self.validation[0]])

    def judged_by(self, fold: int) -> "Split":
        """Return the same folds with ``fold`` as validation and all others as training rows; test stays as it is."""
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
    """Split rows into training, validation and test parts of about ``fractions``; `stratified` ones are alike in their labels.

    ``labels`` is bool (n, c); ``groups`` names the group of each row, None where each row is its own. Stratified, a
    class that two groups have is in training and validation, one that three have in test too, where moving a group can
    bring that about without taking another class from its part. The same arguments give the same split.

    Fractions such as three times 0.333 are taken as parts of their sum. Raises UserError if they do not add up to 1, if training's or validation's is 0, or if there are fewer
    groups than parts.
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
    """Put a share ``test`` of the rows aside and the others into ``k`` folds: fold 0 is validation, the rest training.

    Otherwise as `make_split`. Raises UserError if ``k`` is below 2, ``test`` is not in [0, 1), or there are fewer
    groups than folds.
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
    """Return the fold 0..k-1 of each row, int (n,), made as `make_split` makes its parts, with groups kept whole.

    Raises UserError if ``k`` is below 2 or there are fewer groups than folds.
    """
    if k < 2:
        raise UserError(f"{k} folds: at least 2 are needed")
    return _assign(labels, groups, np.full(k, 1 / k), seed, method)


def write_split(path: Path, ids: Sequence[str], split: Split) -> None:
    """Write a split of all of ``ids`` as a CSV file ``Id,Split``, and ``Fold`` where it has folds, in the dataset's order.

    Raises ValueError if a row is in no part.
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

    Raises DatasetFaults, a UserError that names the file and each line at fault: an Id that the dataset does not
    have, that is named twice or not at all, another word than train, validation or test, an empty part, or a Fold that is
    no number or contradicts the part.
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
    """Return the part of each of ``ids``, -1 where a fault is in the way."""
    places = {identifier: row for row, identifier in enumerate(ids)}
    parts = np.full(len(ids), -1)
    for line, (identifier, part, *_) in rows:
        if identifier not in places:
            faults.append(f"{name}, line {line}: Id '{identifier}' is not in the dataset")
        elif part not in PARTS:
            faults.append(f"{name}, line {line}: '{part}' is no part; expected {', '.join(PARTS)}")
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
    """Return the fold of each of ``ids`` from rows that name each once; validation is the fold of its first row."""
    judging = next(number for _, (_, part, number) in rows if part == "validation")
    found: dict[str, int] = {}
    for line, (identifier, part, number) in rows:
        if number not in _FOLDS:
            faults.append(f"{name}, line {line}: Fold '{number}' is no whole number from -1 to {len(_FOLDS) - 2}")
        elif (number == NO_FOLD) != (part == "test"):
            faults.append(f"{name}, line {line}: Fold {number} in {part}; test rows, and no others, have the fold {NO_FOLD}")
        elif part != "test" and (number == judging) != (part == "validation"):
            faults.append(f"{name}, line {line}: Fold {number} in {part}, but validation is fold {judging}")
        else:
            found[identifier] = int(number)
    missing = set(range(max(found.values(), default=0))) - set(found.values())
    if missing and not faults:
        faults.append(f"{name}: no image is in fold {min(missing)}")
    return np.array([found.get(identifier, -1) for identifier in ids])


def _assign(labels: np.ndarray, groups: Sequence[str] | None, shares: np.ndarray, seed: int, method: Method) -> np.ndarray:
    """Return the part of each row, int (n,): parts take ``shares`` of the rows, groups are whole, and none is empty."""
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
    """Return the part of each group: in random order, the first part until it has its share of the rows, then the next."""
    order = random.permutation(len(sizes))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    parts = np.empty(len(sizes), dtype=int)
    parts[order] = np.searchsorted(np.cumsum(shares)[:-1] * sizes.sum(), middle, side="right")
    return parts


def _place_large(sizes: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each large group, the largest first, to the part that wants most rows.

    Returns the part of each group, -1 for the others, and the rows (float) that each part still wants.
    """
    wanted = shares * sizes.sum()
    parts = np.full(len(sizes), -1)
    large = np.flatnonzero(sizes > max(1.0, LARGE * wanted.min()))
    for group in large[np.argsort(-sizes[large], kind="stable")]:
        parts[group] = wanted.argmax()
        wanted[parts[group]] -= sizes[group]
    return parts, wanted.clip(min=1e-9)


def _size_labels(sizes: np.ndarray) -> np.ndarray:
    """Return a bool column for each power of two from 2 up that sizes of groups reach, true for those within it."""
    magnitude = np.log2(sizes).astype(int)
    return magnitude[:, None] == np.unique(magnitude[magnitude > 0])[None, :]


def _fill_empty(parts: np.ndarray, sizes: np.ndarray, count: int) -> None:
    """Give each part that has no group the smallest group of the part that has most, in place."""
    for empty in range(count):
        if not np.any(parts == empty):
            largest = np.flatnonzero(parts == np.bincount(parts).argmax())
            parts[largest[sizes[largest].argmin()]] = empty


def _spread_rare(parts: np.ndarray, held: np.ndarray, sizes: np.ndarray, count: int) -> None:
    """Move single groups, in place, so that a class of g groups is in each of the first g parts, the rarest class first.

    The stratification gives a class to the part that wants most of it: of two groups with fractions .7 .15 .15 both
    go to training, and validation could not judge the class.
    """
    owners = held.sum(axis=0)
    for label in np.argsort(owners, kind="stable"):
        for part in range(min(count, int(owners[label]))):
            if not np.any(held[parts == part, label]):
                spare = [group for group in np.flatnonzero(held[:, label]).tolist() if _can_leave(group, parts, held, owners)]
                if spare:
                    parts[min(spare, key=lambda group: (sizes[group], held[group].sum()))] = part


def _can_leave(group: int, parts: np.ndarray, held: np.ndarray, owners: np.ndarray) -> bool:
    """Whether the part of ``group`` keeps every class that it should have, and a group, when this one leaves."""
    others = (parts == parts[group]) & (np.arange(len(parts)) != group)
    should_have = held[group] & (owners > parts[group])
    return bool(others.any()) and bool(np.all(held[others].any(axis=0)[should_have]))
