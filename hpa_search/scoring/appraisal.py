"""How good a final stage is, told once for all who report it: the honest number, the classes one by one, and what else was tried."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.calibration import Floats
from hpa_search.scoring.estimate import FOLDS, Choose, NestedEstimate, Predict, Rows, nested_estimate
from hpa_search.scoring.final import Ensemble, FinalChoice
from hpa_search.scoring.intervals import Interval, bootstrap_interval, f1_intervals, paired_difference
from hpa_search.scoring.metrics import Booleans, as_labels
from hpa_search.scoring.rules import RULES, UNSEEN

RARE = 5
"""A class with fewer positives is not judged: one row more or less moves its F1 by a tenth and more."""

WAYS = ("single", "uniform")
"""The selections that the chosen one is held against."""

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class ClassScore:
    """What is known of the class ``label`` from its ``positives`` among the rows.

    ``f1`` and ``claimed``, the number of rows that got it, are of the honest predictions; ``threshold`` is that of the
    ensemble. ``verdict`` is empty where the class can be judged, and says in words why not where it cannot.
    """

    label: int
    positives: int
    claimed: int
    f1: Interval
    threshold: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Appraisal:
    """A final stage's ensemble, chosen on all rows, and what repeating it inside folds says about it.

    ``interval`` is macro F1 of ``estimate.predicted``, the honest predictions; ``filled`` counts those of them that got
    their likeliest label because none reached its threshold. ``ways`` are macro F1 of other selections (`WAYS`) with the
    same thresholds, nested alike, and ``differences`` the chosen way minus these on the same redraws of the rows.
    ``rules`` are macro F1 of every rule, refitted inside folds on the mean of the chosen members, which saw all rows: to
    compare rules by. All is over the classes that were asked for, which ``classes`` lists.
    """

    ensemble: Ensemble
    estimate: NestedEstimate
    interval: Interval
    classes: tuple[ClassScore, ...]
    ways: dict[str, Interval]
    differences: dict[str, Interval]
    rules: dict[str, float]
    filled: int


def appraise(
    choice: FinalChoice,
    member_logits: NDArray[np.floating],
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    scored: ArrayLike | None = None,
    tell: Tell | None = None,
) -> Appraisal:
    """Choose on ``member_logits`` (m, n, k) with ``labels`` (n, k), and repeat the choice inside ``folds``.

    Rows of one of the ``groups`` (n,) share a fold and are redrawn together. F1 is over
    ``scored`` (mask or indices; None: all). ``tell`` hears how many of the choices, folds + 1, are made.
    Raises ValueError for NaN, unequal shapes, unknown names, more folds than rows or groups, and a fold without which no
    row has a label.
    """
    rows = _Judged(member_logits, as_labels(labels), groups, folds, seed, scored)
    stage = _Stage(choice, rows, tell)
    estimate = rows.nested(stage)
    predicted = {name: _way(choice, name, rows, estimate) for name in WAYS}
    return Appraisal(
        stage.ensemble,
        estimate,
        rows.interval(estimate.predicted),
        _class_scores(choice, stage.ensemble, estimate, rows),
        {name: rows.interval(way) for name, way in predicted.items()},
        {name: rows.difference(estimate.predicted, way) for name, way in predicted.items()},
        _rules(choice, stage.ensemble, rows),
        stage.filled,
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """The rows that are chosen and judged on, and how."""

    member_logits: NDArray[np.floating]
    truth: Booleans
    groups: ArrayLike | None
    folds: int
    seed: int
    scored: ArrayLike | None

    @property
    def classes(self) -> Rows:
        """The classes that F1 is over."""
        every = np.arange(self.truth.shape[1])
        return every if self.scored is None else every[np.asarray(self.scored)]

    def nested(self, choose: Choose) -> NestedEstimate:
        return nested_estimate(
            self.truth, choose=choose, folds=self.folds, seed=self.seed, groups=self.groups, classes=self.classes
        )

    def interval(self, predicted: Booleans) -> Interval:
        c = self.classes
        return bootstrap_interval(predicted[:, c], self.truth[:, c], seed=self.seed, groups=self.groups)

    def difference(self, one: Booleans, other: Booleans) -> Interval:
        c = self.classes
        return paired_difference(one[:, c], other[:, c], self.truth[:, c], seed=self.seed, groups=self.groups)


class _Stage:
    """The choice as a function of the rows to choose on; made on all rows once, and counting the rows that it fills."""

    def __init__(self, choice: FinalChoice, rows: _Judged, tell: Tell | None) -> None:
        self.choice, self.rows, self.filled = choice, rows, 0
        self._tell, self._made = tell, 0
        self.ensemble = self._counted(choice(rows.member_logits, rows.truth))

    def __call__(self, rows: Rows) -> Predict:
        if len(rows) == len(self.rows.truth):
            return lambda others: self.ensemble(self.rows.member_logits[:, others])
        inside = self._counted(self.choice(self.rows.member_logits[:, rows], self.rows.truth[rows]))
        return partial(self._held_out, inside)

    def _held_out(self, ensemble: Ensemble, others: Rows) -> Booleans:
        decision = ensemble.rule.predict(ensemble.logits(self.rows.member_logits[:, others]))
        self.filled += decision.filled
        return decision.labels

    def _counted(self, ensemble: Ensemble) -> Ensemble:
        self._made += 1
        if self._tell is not None:
            self._tell(self._made, self.rows.folds + 1)
        return ensemble


def _way(choice: FinalChoice, name: str, rows: _Judged, estimate: NestedEstimate) -> Booleans:
    """Return the honest predictions (n, k) of the selection ``name``."""
    if name == choice.ensemble:
        return estimate.predicted
    return rows.nested(replace(choice, ensemble=name).on(rows.member_logits, rows.truth)).predicted


def _rules(choice: FinalChoice, ensemble: Ensemble, rows: _Judged) -> dict[str, float]:
    logits = ensemble.logits(rows.member_logits)
    return {name: rows.nested(_refit(replace(choice, thresholds=name), ensemble, logits, rows.truth)).honest for name in RULES}


def _refit(choice: FinalChoice, ensemble: Ensemble, logits: Floats, truth: Booleans) -> Choose:
    """Return the rule of ``choice``, fitted to rows of ``logits`` (n, k), as a function of these rows."""

    def choose(rows: Rows) -> Predict:
        rule = choice.rule(logits[rows], truth[rows], ensemble.covered)
        return lambda others: rule.predict(logits[others]).labels

    return choose


def _class_scores(choice: FinalChoice, ensemble: Ensemble, estimate: NestedEstimate, rows: _Judged) -> tuple[ClassScore, ...]:
    c = rows.classes
    predicted, truth = estimate.predicted[:, c], rows.truth[:, c]
    counts = zip(truth.sum(axis=0).tolist(), predicted.sum(axis=0).tolist(), strict=True)
    intervals = f1_intervals(predicted, truth, seed=rows.seed, groups=rows.groups)
    return tuple(
        ClassScore(
            label,
            positives,
            claimed,
            # A normal interval knows nothing of the ends of the scale.
            replace(f1, low=max(f1.low, 0.0), high=min(f1.high, 1.0)),
            float(ensemble.rule.thresholds[label]),
            _verdict(choice, ensemble, label, positives),
        )
        for label, (positives, claimed), f1 in zip(c.tolist(), counts, intervals, strict=True)
    )


def _verdict(choice: FinalChoice, ensemble: Ensemble, label: int, positives: int) -> str:
    """Say what was decided about a class that cannot be judged; nothing about one that can."""
    if ensemble.covered is not None and not ensemble.covered[label]:
        return "no member was trained for it: never given"
    if not positives:
        unseen = choice.trained is not None and label not in choice.trained
        return f"no positives here{' or in training' if unseen else ''}: F1 counts as 0; threshold from {_source(choice, unseen)}"
    if positives < RARE:
        return f"too rare to judge: {positives} positive{'s' if positives > 1 else ''}; F1 and threshold are guesses"
    return ""


def _source(choice: FinalChoice, unseen: bool) -> str:
    """Say where the threshold of a class without positives comes from."""
    if choice.thresholds not in ("plug_in", "proportion", "global"):
        return "the rule's convention"
    return f"the classes together{f', at least {UNSEEN}' if unseen and choice.thresholds != 'global' else ''}"
