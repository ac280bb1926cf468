"""What a final stage measured, as one frozen record; `report` turns it into text, and each command into its own file.

`Measured` holds what every final stage knows. `MeasuredSearch` adds what only the trials of a search can show.
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
    """A member of the ensemble and its weight. Its source is a trial's epoch, or the name of a model in a file."""

    source: Snapshot | str
    weight: float


@dataclass(frozen=True)
class Nested:
    """Macro F1 by predictions that took no part in the choice: each fold's rows are judged by what the other folds chose.

    ``naive`` is macro F1 on the rows that chose everything, and ``optimism`` how much higher it is. The numbers rest on
    ``rows`` rows in ``folds`` folds; ``groups`` counts the groups that stay whole, None without groups. Each row is judged
    by one of the ``networks`` of a member. ``filled`` rows reached no threshold and got their likeliest label. ``classes``
    are the scored labels, ``absent`` those without a positive, which count as 0, and ``present_only`` the mean of the others.
    ``ways``, ``differences`` and ``rules`` compare other choices; see `appraisal.Appraisal`.
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
        """Return the numbers of ``appraisal``, with the rows, groups and folds that it was made on."""
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
    """An ensemble, how it was chosen among ``candidates``, and how good it is.

    ``labels`` are the ids that macro F1 averages. ``ensemble`` and ``thresholds`` name the selection and the rule, and
    ``max_members`` limits the members. ``rule`` holds the calibration and the thresholds. ``nested`` is None where the
    rows are all of one group.
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
    """The best trial after the best single one: macro AP (best, this one), and the difference best minus this one.

    Both were ranked by these very rows, so the difference is too large rather than too small.
    """

    source: Snapshot
    macro_ap: tuple[float, float]
    difference: Interval


@dataclass(frozen=True)
class HeldOut:
    """Macro F1 on test rows, which nothing was chosen on; ``difference`` is the ensemble minus the best single trial.

    ``floor`` is macro F1 of every label on every image. ``filled`` rows reached no threshold and got their likeliest label.
    ``classes`` is F1 of the ensemble for each of the 28 labels.
    """

    ensemble: Interval
    best_single: Interval
    difference: Interval
    floor: float
    filled: int
    classes: tuple[Interval, ...]


@dataclass(frozen=True)
class MeasuredSearch(Measured):
    """What a search's final stage measured.

    ``rows`` and ``positives`` (28,) are counts of each part of the split: train, validation, test. ``runner_up`` is None
    where no other trial is comparable, ``test`` where the split has no test rows. ``submission`` counts the test images
    of the dataset that got labels.
    """

    tta: TestTime
    rows: Mapping[str, int]
    positives: Mapping[str, tuple[int, ...]]
    best_single: Snapshot
    runner_up: RunnerUp | None
    test: HeldOut | None
    submission: int
