"""The registry of threshold rules, and the steps that several rules share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from hpa_search.registry import Registry, summary
from hpa_search.scoring.calibration import Floats, Platt
from hpa_search.scoring.metrics import Booleans, as_labels, as_scores
from hpa_search.scoring.thresholds import DecisionRule


class FitRule(Protocol):
    """Fits a `DecisionRule` to logits (n, k) and labels (n, k)."""

    def __call__(
        self, logits: ArrayLike, labels: ArrayLike, *, trained: ArrayLike | None, start: Platt | None, fill: bool
    ) -> DecisionRule:
        """Return the rule.

        ``trained`` (k,) bool marks the classes with positives in training; None marks all. ``start``, a calibration
        of nearly the same rows, saves time and changes nothing. ``fill`` is that of `DecisionRule`.
        Raises ValueError for NaN or unequal shapes.
        """


@dataclass(frozen=True)
class Rule:
    """A way to fit a `DecisionRule`.

    ``absent`` says in a report where the threshold of a class without positives comes from. ``unseen`` says the same for a
    class without positives in training either.
    """

    fit: FitRule
    absent: str
    unseen: str


RULES = Registry[Rule]("thresholds")


def rule(name: str, *, absent: str = "the rule's convention", unseen: str = "") -> Callable[[FitRule], FitRule]:
    """Return a decorator that registers a rule as ``name``. ``unseen`` defaults to ``absent``."""

    def add(fit: FitRule) -> FitRule:
        RULES.register(name, about=summary(fit))(Rule(fit, absent, unseen or absent))
        return fit

    return add


def uncalibrated(logits: ArrayLike, labels: ArrayLike, fill: bool, cut: Callable[[Floats, Booleans], Floats]) -> DecisionRule:
    """Return the rule without calibration that has the thresholds (k,) of ``cut``."""
    truth = as_labels(labels)
    platt = Platt(np.ones(truth.shape[1]), np.zeros(truth.shape[1]))
    p = platt.probabilities(as_scores(logits, truth.shape, name="logits"))
    return DecisionRule(platt, cut(p, truth), fill)


def careful_of_absent(thresholds: Floats, probabilities: Floats, labels: Booleans) -> Floats:
    """Raise the threshold of each class without positives above the median of its probabilities.

    A network may give all rows nearly the same score. The best cut then claims every row. But none of these rows carries the
    class, so fewer than half of other rows will.
    """
    above = np.nextafter(np.median(probabilities, axis=0), 1)
    return np.where(labels.any(axis=0), thresholds, np.maximum(thresholds, above))
