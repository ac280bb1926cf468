"""Made-up measurements of a final stage, for the tests of what is said about them."""

from dataclasses import replace

import numpy as np

from hpa_search.scoring.appraisal import ClassScore
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.intervals import Interval
from hpa_search.scoring.measured import HeldOut, Measured, MeasuredSearch, Member, Nested, RunnerUp, Snapshot
from hpa_search.scoring.records import Rule
from hpa_search.scoring.thresholds import DecisionRule

HALF = Interval(0.5, 0.45, 0.55, 0.9)
UNCLEAR = Interval(0.02, -0.01, 0.05, 0.9)
BETTER = Interval(0.02, 0.01, 0.03, 0.9)
WORSE = Interval(-0.02, -0.03, -0.01, 0.9)
VERDICT = "too rare to judge: 1 positive; F1 and threshold are guesses"


def rule() -> Rule:
    return Rule.of(DecisionRule(Platt(np.linspace(0.5, 2, 28), np.linspace(-1, 1, 28)), np.linspace(0.1, 0.9, 28)))


def class_score(label: int, positives: int = 20, verdict: str = "") -> ClassScore:
    f1 = Interval(0.6 if positives else 0.0, 0.4 if positives else 0.0, 0.8 if positives else 0.0, 0.9)
    return ClassScore(label, positives, 10, f1, 0.25, verdict)


def nested(**changes) -> Nested:
    """Of 100 rows; labels 8 and 27 have no positive."""
    made = Nested(
        macro_f1=Interval(0.52, 0.47, 0.57, 0.9),
        naive=0.55,
        optimism=0.03,
        rows=100,
        groups=None,
        folds=5,
        networks=1,
        filled=2,
        classes=tuple(class_score(label, 0 if label in (8, 27) else 20) for label in range(28)),
        absent=(8, 27),
        present_only=0.56,
        ways={"single": HALF, "uniform": HALF},
        differences={"single": UNCLEAR, "uniform": BETTER},
        rules={"exact": 0.4321, "plug_in": 0.52},
    )
    return replace(made, **changes)


def measured(**changes) -> Measured:
    """Of models in a file."""
    made = Measured(
        labels=tuple(range(28)),
        ensemble="greedy",
        thresholds="plug_in",
        max_members=5,
        candidates=3,
        members=(Member("a|b", 0.6), Member("c", 0.4)),
        rule=rule(),
        nested=nested(),
    )
    return replace(made, **changes)


def measured_search(**changes) -> MeasuredSearch:
    """Of a search with two members, ten test rows and no test images to label."""
    test = HeldOut(HALF, Interval(0.48, 0.43, 0.53, 0.9), UNCLEAR, 0.1, 0, (HALF,) * 28)
    made = MeasuredSearch(
        **{name: getattr(measured(), name) for name in ("labels", "ensemble", "thresholds", "max_members", "candidates", "rule")},
        members=(Member(Snapshot("first", 3, 9), 0.75), Member(Snapshot("first", 1, 4), 0.25)),
        nested=nested(),
        tta="none",
        rows={"train": 60, "validation": 20, "test": 10},
        positives={"train": (9,) * 28, "validation": (5,) * 28, "test": (2,) * 28},
        best_single=Snapshot("first", 3, 9),
        runner_up=RunnerUp(Snapshot("first", 1, 4), (0.6, 0.58), UNCLEAR),
        test=test,
        submission=0,
    )
    return replace(made, **changes)
