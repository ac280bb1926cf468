"""What a final stage measured, as one frozen record.

`Measured` holds the numbers of every final stage. `MeasuredSearch` adds the numbers of a search's trials. `report` turns both
into text. Each command writes them into its own file.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hpa_search.config import TestTime
from hpa_search.scoring.appraisal import Appraisal, ClassScore
from hpa_search.scoring.intervals import Interval
from hpa_search.scoring.records import Rule


@dataclass(frozen=True)
class Snapshot:
    """A trial of a search at an epoch."""

    search: str
    trial: int
    epoch: int


@dataclass(frozen=True)
class Member:
    """A member of the ensemble and its weight.

    ``source`` is a trial's epoch, or the name of a model in a file of predictions.
    """

    source: Snapshot | str
    weight: float


@dataclass(frozen=True)
class Nested:
    """Macro F1 by nested predictions: the choice is repeated in each fold on the rows of the other folds.

    ``naive`` is macro F1 on the rows that chose everything. ``optimism`` is naive minus nested. ``rows`` rows lie in
    ``folds`` folds. ``groups`` counts the groups, which stay whole; it is None without groups. One of the ``networks`` of a
    member predicts each row. ``filled`` rows reached no threshold and got their likeliest label. ``classes`` are the scored
    labels. ``absent`` are those without a positive. They count as 0, and ``present_only`` is the mean of the others.
    ``ways``, ``differences`` and ``rules`` score other choices; see `appraisal.Appraisal`.
    """

    macro_f1: Interval
    naive: float
    optimism: float
    rows: int
    groups: int | None
    folds: int
    networks: int
    filled: int
    classes: tuple[ClassScore, ...]
    absent: tuple[int, ...]
    present_only: float
    ways: Mapping[str, Interval]
    differences: Mapping[str, Interval]
    rules: Mapping[str, float]

    @classmethod
    def of(cls, appraisal: Appraisal, *, rows: int, groups: int | None, folds: int, networks: int = 1) -> "Nested":
        """Return the numbers of ``appraisal``, which was made on so many rows, groups and folds."""
        return cls(
            macro_f1=appraisal.interval,
            naive=appraisal.estimate.naive,
            optimism=appraisal.estimate.optimism,
            rows=rows,
            groups=groups,
            folds=folds,
            networks=networks,
            filled=appraisal.filled,
            classes=appraisal.classes,
            absent=appraisal.absent,
            present_only=appraisal.present_only,
            ways=appraisal.ways,
            differences=appraisal.differences,
            rules=appraisal.rules,
        )


@dataclass(frozen=True)
class Measured:
    """An ensemble, its choice among ``candidates`` members, and its scores.

    ``labels`` are the ids that macro F1 averages. ``ensemble`` names the selection of members, and ``thresholds`` the rule.
    At most ``max_members`` members stay. ``rule`` holds the calibration and the thresholds. ``nested`` is None if the rows
    are all of one group.
    """

    labels: tuple[int, ...]
    ensemble: str
    thresholds: str
    max_members: int
    candidates: int
    members: tuple[Member, ...]
    rule: Rule
    nested: Nested | None


@dataclass(frozen=True)
class RunnerUp:
    """The best other trial, compared with the best single trial on the rows that ranked both.

    ``macro_ap`` is that of the best trial and that of this one. ``difference`` is the first minus the second. Because these
    rows ranked the two, it is too large rather than too small.
    """

    source: Snapshot
    macro_ap: tuple[float, float]
    difference: Interval


@dataclass(frozen=True)
class HeldOut:
    """Macro F1 on test rows, which nothing was chosen on.

    ``difference`` is the ensemble minus the best single trial. ``floor`` is the score of every label on every image.
    ``filled`` rows reached no threshold and got their likeliest label. ``classes`` is the ensemble's F1 for each of the 28
    labels.
    """

    ensemble: Interval
    best_single: Interval
    difference: Interval
    floor: float
    filled: int
    classes: tuple[Interval, ...]


@dataclass(frozen=True)
class MeasuredSearch(Measured):
    """What the final stage of a search measured.

    ``rows`` and ``positives`` (28,) are counts for each part: train, validation, test. ``runner_up`` is None without another
    trial for the same labels. ``test`` is None without test rows. ``submission`` is the number of test images that got
    labels.
    """

    tta: TestTime
    rows: Mapping[str, int]
    positives: Mapping[str, tuple[int, ...]]
    best_single: Snapshot
    runner_up: RunnerUp | None
    test: HeldOut | None
    submission: int
