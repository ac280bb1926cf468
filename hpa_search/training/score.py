"""A trial's metrics of one epoch, from the validation logits."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpa_search.scoring.metrics import macro_average_precision, macro_f1, sample_f1
from hpa_search.scoring.rules import cross_fitted

Objective = Literal["macro_ap", "macro_f1", "macro_f1_at_half"]
Metrics = dict[str, float]


@dataclass(frozen=True, eq=False)
class Judge:
    """How trials are judged: by ``objective``, one of the metrics.

    Macro AP averages ``classes``, a bool mask (28,). F1 is over all 28 labels, or over ``only`` those of a search that
    is restricted to some (mask (28,), None for all).
    """

    classes: NDArray[np.bool_]
    objective: Objective = "macro_ap"
    only: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.only is not None and (self.classes & ~self.only).any():
            raise ValueError("macro AP averages classes that the search leaves out")

    def score(
        self, logits: NDArray[np.floating], labels: NDArray[np.bool_], folds: int, groups: NDArray[np.str_] | None
    ) -> Metrics:
        """Return macro_ap, macro_f1_at_half (every threshold 0.5), macro_f1, sample_f1 and objective.

        ``logits`` and ``labels`` are (n, 28). The thresholds behind macro_f1 and sample_f1 are fitted on other folds.
        """
        metrics = {"macro_ap": float(macro_average_precision(logits, labels, classes=self.classes))}
        seen = slice(None) if self.only is None else self.only
        logits, labels = logits[:, seen], labels[:, seen]
        fitted = cross_fitted(logits, labels, folds=folds, seed=0, groups=groups, fill=self.only is None)
        metrics["macro_f1_at_half"] = float(macro_f1(logits > 0, labels))
        metrics["macro_f1"] = float(macro_f1(fitted, labels))
        metrics["sample_f1"] = float(sample_f1(fitted, labels))
        return metrics | {"objective": metrics[self.objective]}
