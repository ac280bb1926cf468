"""A trial's metrics of one epoch, from its validation logits.

A new metric is one function of `ValidationRows`, registered in METRICS. Every metric there becomes a column of metrics.csv and a
TensorBoard scalar. To let searches optimise it too, add its name to `ObjectiveMetric`. Beside them stands the F1 of each class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpa_search.labels import LABELS
from hpa_search.registry import Registry
from hpa_search.scoring.metrics import f1_per_class, macro_average_precision, macro_f1, sample_f1
from hpa_search.scoring.rules import cross_fitted

ObjectiveMetric = Literal["macro_ap", "macro_f1", "macro_f1_at_half"]
"""The metrics that a search may maximise."""

Metrics = dict[str, float]
"""One epoch's numbers by name."""
CLASS_F1 = "f1/"
"""The names of the classes' F1 begin so, as in `f1/Nucleoplasm`."""


@dataclass(frozen=True, eq=False)
class ValidationRows:
    """The n validation rows that a metric scores, on the k labels of the search.

    k is 28 unless the search is restricted. ``logits``, the true ``labels`` and the predicted labels ``fitted`` are (n, k).
    The thresholds of each row of ``fitted`` are fitted on other folds. ``classes`` (k,) is the mask of the classes in macro
    AP.
    """

    logits: NDArray[np.floating]
    labels: NDArray[np.bool_]
    fitted: NDArray[np.bool_]
    classes: NDArray[np.bool_]


METRICS: Registry[Callable[[ValidationRows], float]] = Registry("metric")


@METRICS.register("macro_ap")
def _macro_ap(rows: ValidationRows) -> float:
    """Average only the classes with enough positives."""
    return macro_average_precision(rows.logits, rows.labels, classes=rows.classes)


@METRICS.register("macro_f1_at_half")
def _macro_f1_at_half(rows: ValidationRows) -> float:
    """Predict a label where its probability is above 0.5."""
    return macro_f1(rows.logits > 0, rows.labels)


@METRICS.register("macro_f1")
def _macro_f1(rows: ValidationRows) -> float:
    return macro_f1(rows.fitted, rows.labels)


@METRICS.register("sample_f1")
def _sample_f1(rows: ValidationRows) -> float:
    return sample_f1(rows.fitted, rows.labels)


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores an epoch by every metric. One of them is the objective.

    Macro AP averages ``classes``, a bool mask (28,). The other metrics cover all 28 labels, or only the labels ``only`` (28,)
    of a restricted search. Raises ValueError if ``classes`` has a label outside ``only``.
    """

    classes: NDArray[np.bool_]
    objective: ObjectiveMetric = "macro_ap"
    only: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.only is not None and (self.classes & ~self.only).any():
            raise ValueError("macro AP averages classes that the search leaves out")

    def score(
        self, logits: NDArray[np.floating], labels: NDArray[np.bool_], folds: int, groups: NDArray[np.str_] | None
    ) -> Metrics:
        """Return every metric of METRICS, the objective, and the F1 of each class, for ``logits`` and ``labels`` (n, 28).

        Thresholds are cross-fitted over ``folds`` that keep the ``groups`` (n,) whole. A class without a positive row has no
        F1.
        """
        seen = slice(None) if self.only is None else self.only
        logits, labels = logits[:, seen], labels[:, seen]
        fitted = cross_fitted(logits, labels, folds=folds, seed=0, groups=groups, fill=self.only is None)
        rows = ValidationRows(logits, labels, fitted, self.classes[seen])
        metrics = {name: float(metric(rows)) for name, metric in METRICS.items()}
        return metrics | {"objective": metrics[self.objective]} | _class_f1(rows, np.array(LABELS)[seen])


def _class_f1(rows: ValidationRows, names: NDArray[np.str_]) -> Metrics:
    """Return the F1 of each class that has a positive row, by the class's name."""
    scores = f1_per_class(rows.fitted, rows.labels)
    return {f"{CLASS_F1}{names[label]}": float(scores[label]) for label in np.flatnonzero(rows.labels.any(axis=0))}
