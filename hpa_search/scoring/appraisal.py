"""The report on a final stage: honest macro F1, each class, other selections and rules."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpa_search.scoring.estimate import NestedEstimate, Progress, out_of_fold, usual_folds
from hpa_search.scoring.final import Ensemble, FinalChoice
from hpa_search.scoring.intervals import Interval, bootstrap_interval, f1_intervals, paired_difference
from hpa_search.scoring.metrics import Booleans, Indices, as_labels, macro_f1
from hpa_search.scoring.rules import RULES

RARE = 5
"""A class with fewer positives is not judged: a single row moves its F1 by 0.1 or more."""

WAYS = ("single", "uniform")
"""The selections with which the chosen one is compared."""


@dataclass(frozen=True)
class ClassScore:
    """The scores of the class ``label``, which has ``positives`` among the rows.

    ``f1`` is that of the honest predictions. ``claimed`` counts the rows that they label with the class. ``threshold`` is that
    of the ensemble. ``verdict`` says why the class cannot be judged, or is empty.
    """

    label: int
    positives: int
    claimed: int
    f1: Interval
    threshold: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Appraisal:
    """The ensemble chosen on all rows, and scores of the same choice inside folds.

    Scores are over the scored classes, which ``classes`` lists. They are nested: no row is judged by a choice that saw it.

    - ``interval``: macro F1 of the honest predictions, ``estimate.predicted``.
    - ``ways``: macro F1 of the selections in `WAYS`, with the chosen threshold rule.
    - ``differences``: the chosen selection minus each of these, on the same redraws.
    - ``rules``: macro F1 of every threshold rule, with the chosen selection.
    - ``filled``: the number of rows below all thresholds, which got their likeliest label.
    """

    ensemble: Ensemble
    estimate: NestedEstimate
    interval: Interval
    classes: tuple[ClassScore, ...]
    ways: dict[str, Interval]
    differences: dict[str, Interval]
    rules: dict[str, float]
    filled: int

    @property
    def absent(self) -> tuple[int, ...]:
        """The scored classes without positives among the rows. Their F1 counts as 0 for any model."""
        return tuple(score.label for score in self.classes if not score.positives)

    @property
    def present_only(self) -> float:
        """The honest macro F1 over the classes with positives; 0 if there are none."""
        found = [score.f1.value for score in self.classes if score.positives]
        return float(np.mean(found)) if found else 0.0


def appraise(
    choice: FinalChoice,
    member_logits: NDArray[np.floating],
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    folds: int | None = None,
    seed: int = 0,
    scored: ArrayLike | None = None,
    tell: Progress | None = None,
) -> Appraisal:
    """Return the ensemble that ``choice`` makes on all rows, with scores of the same choice inside ``folds``.

    ``member_logits`` are (m, n, k), ``labels`` (n, k). ``folds`` defaults to `usual_folds`. Rows with the same entry of
    ``groups`` (n,) share a fold and are redrawn together. F1 is over the classes ``scored`` (mask or indices; None: all).
    ``tell`` is called with the number of finished folds and of all folds.
    Raises ValueError for NaN, unequal shapes and unknown names. Raises ValueError for more folds than rows or groups, and for
    a fold that holds all labelled rows.
    """
    truth = as_labels(labels)
    units = len(truth) if groups is None else len(np.unique(np.asarray(groups)))
    rows = _Evaluation(member_logits, truth, groups, usual_folds(units) if folds is None else folds, seed, scored)
    ensemble = choice(member_logits, rows.truth)
    nested, filled = _nested(choice, rows, tell)
    honest = nested["ensemble", choice.ensemble]
    estimate = NestedEstimate(rows.macro_f1(honest), rows.macro_f1(ensemble(member_logits)), honest)
    ways = {name: nested["ensemble", name] for name in WAYS}
    return Appraisal(
        ensemble,
        estimate,
        rows.interval(honest),
        _class_scores(choice, ensemble, estimate, rows),
        {name: rows.interval(way) for name, way in ways.items()},
        {name: rows.difference(honest, way) for name, way in ways.items()},
        {name: rows.macro_f1(nested["thresholds", name]) for name in RULES},
        filled,
    )


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """The rows of an appraisal, and how they are divided and scored."""

    member_logits: NDArray[np.floating]
    truth: Booleans
    groups: ArrayLike | None
    folds: int
    seed: int
    scored: ArrayLike | None

    @property
    def classes(self) -> Indices:
        """The indices of the scored classes."""
        every = np.arange(self.truth.shape[1])
        return every if self.scored is None else every[np.asarray(self.scored)]

    def macro_f1(self, predicted: Booleans) -> float:
        return macro_f1(predicted[:, self.classes], self.truth[:, self.classes])

    def interval(self, predicted: Booleans) -> Interval:
        c = self.classes
        return bootstrap_interval(predicted[:, c], self.truth[:, c], seed=self.seed, groups=self.groups)

    def difference(self, one: Booleans, other: Booleans) -> Interval:
        c = self.classes
        return paired_difference(one[:, c], other[:, c], self.truth[:, c], seed=self.seed, groups=self.groups)


Way = tuple[str, str]
"""A field of `FinalChoice`, and the name that replaces its value."""


def _nested(choice: FinalChoice, rows: _Evaluation, tell: Progress | None) -> tuple[dict[Way, Booleans], int]:
    """Return the honest predictions (n, k) of each selection and rule, and the filled rows of the choice."""
    filled = 0

    def choose(inside: Indices) -> Callable[[Indices], dict[Way, Booleans]]:
        members, truth = rows.member_logits[:, inside], rows.truth[inside]
        given = choice.standardised(members, truth)
        names = dict.fromkeys((choice.ensemble, *WAYS))
        ensembles = {name: replace(choice, ensemble=name).choose(given, members, truth) for name in names}
        chosen = ensembles[choice.ensemble]
        logits = chosen.logits(members)
        rules = {name: replace(choice, thresholds=name).rule(logits, truth, chosen.covered) for name in RULES}

        def predict(others: Indices) -> dict[Way, Booleans]:
            nonlocal filled
            held = rows.member_logits[:, others]
            judged = chosen.logits(held)
            filled += chosen.rule.predict(judged).filled
            by_rule = {("thresholds", name): rule.predict(judged).labels for name, rule in rules.items()}
            return by_rule | {("ensemble", name): ensemble(held) for name, ensemble in ensembles.items()}

        return predict

    found = out_of_fold(rows.truth, choose, folds=rows.folds, seed=rows.seed, groups=rows.groups, tell=tell)
    return found, filled


def _class_scores(choice: FinalChoice, ensemble: Ensemble, estimate: NestedEstimate, rows: _Evaluation) -> tuple[ClassScore, ...]:
    c = rows.classes
    predicted, truth = estimate.predicted[:, c], rows.truth[:, c]
    counts = zip(truth.sum(axis=0).tolist(), predicted.sum(axis=0).tolist(), strict=True)
    intervals = f1_intervals(predicted, truth, seed=rows.seed, groups=rows.groups)
    return tuple(
        ClassScore(
            label,
            positives,
            claimed,
            # A normal interval may leave the scale of F1.
            replace(f1, low=max(f1.low, 0.0), high=min(f1.high, 1.0)),
            float(ensemble.rule.thresholds[label]),
            _verdict(choice, ensemble, label, positives),
        )
        for label, (positives, claimed), f1 in zip(c.tolist(), counts, intervals, strict=True)
    )


def _verdict(choice: FinalChoice, ensemble: Ensemble, label: int, positives: int) -> str:
    """Return why a class cannot be judged, or an empty string."""
    if ensemble.covered is not None and not ensemble.covered[label]:
        return "no member was trained for it: never given"
    if not positives:
        unseen, rule = choice.trained is not None and label not in choice.trained, RULES[choice.thresholds]
        source = rule.unseen if unseen else rule.absent
        return f"no positives here{' or in training' if unseen else ''}: F1 counts as 0; threshold from {source}"
    if positives < RARE:
        return f"too rare to judge: {positives} positive{'s' if positives > 1 else ''}; F1 and threshold are guesses"
    return ""
