"""What is told of an ensemble: tables for programs, a page for a person, and the last lines of the command."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpa_search.hints import command
from hpa_search.labels import LABELS
from hpa_search.predictions.chosen import Chosen
from hpa_search.predictions.reading import Predictions
from hpa_search.scoring.appraisal import Appraisal
from hpa_search.scoring.metrics import macro_average_precision

Row = Mapping[str, Any]


def member_rows(given: Predictions, chosen: Chosen) -> list[Row]:
    """Return a row for each model, those that take part first: its weight, and macro AP by itself."""
    assert given.labels is not None
    rows = [
        {
            "model": model.name,
            "weight": model.weight,
            "macro_ap": macro_average_precision(logits, given.labels),
        }
        for model, logits in zip(chosen.models, given.logits, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["weight"], -row["macro_ap"]))


def class_rows(appraisal: Appraisal) -> list[Row]:
    """Return a row for each class; F1 and its interval are of the honest predictions."""
    platt = appraisal.ensemble.rule.platt
    return [
        {
            "id": score.label,
            "name": LABELS[score.label],
            "positives": score.positives,
            "claimed": score.claimed,
            "F1": score.f1.value,
            "low": score.f1.low,
            "high": score.f1.high,
            "threshold": score.threshold,
            "slope": float(platt.slope[score.label]),
            "offset": float(platt.offset[score.label]),
            "verdict": score.verdict,
        }
        for score in appraisal.classes
    ]


def to_csv(rows: Sequence[Row]) -> str:
    """Return ``rows`` as CSV with a header, numbers with six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row.values()] for row in rows)
    return text.getvalue()


def summary(result: Row, members: Sequence[Row], classes: Sequence[Row]) -> str:
    """Return the page for a person, in Markdown."""
    rules = [{"thresholds": name, "macro F1": f1} for name, f1 in sorted(result["rules"].items(), key=lambda pair: -pair[1])]
    ways = [
        _way("this ensemble", result, None),
        _way("the best single model", result["best_single"], result["difference_to_best_single"]),
        _way(
            f"the best {min(result['max_members'], result['models'])} with equal weights",
            result["uniform"],
            result["difference_to_uniform"],
        ),
    ]
    parts = [
        "# Ensemble",
        "\n".join(f"- {line}" for line in headline(result)),
        f"Every number that is called honest is measured on rows that took no part in the choice: in {result['folds']} folds, models, "
        "weights, calibration and thresholds are chosen again on the other rows. Intervals are from bootstrap redraws of the rows.",
        "## Ways to choose",
        _markdown(ways),
        "## Models",
        _markdown(members),
        "A weight is a model's share of the mean of logits, each model calibrated and brought to one scale before. Macro AP is of the model by itself.",
        "## Thresholds by other rules",
        _markdown(rules),
        "Members are chosen and the rule is fitted again in each fold.",
        "## Classes",
        _markdown(classes),
        "A threshold is on the calibrated probability, sigmoid(slope x logit + offset). A verdict says what was decided where the "
        "rows do not suffice to judge.",
    ]
    return "\n\n".join(parts) + "\n"


def _way(name: str, found: Row, difference: Row | None) -> Row:
    value = found["value"] if difference else found["macro_f1"]
    return {
        "way": name,
        "honest macro F1": value,
        "interval": f"{found['low']:.4f} to {found['high']:.4f}",
        "this ensemble is": "" if difference is None else _compared(difference),
    }


def _markdown(rows: Sequence[Row]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def headline(result: Row) -> list[str]:
    """Return the lines that tell what came out."""
    members = ", ".join(f"{name} x {weight:.2f}" for name, weight in result["members"].items())
    return [
        f"Ensemble of {len(result['members'])} of {result['models']}: {members}",
        f"Honest macro F1: {result['macro_f1']:.4f} [{result['low']:.4f}, {result['high']:.4f}] {result['level']:.0%}, "
        f"over all {len(LABELS)} classes, {result['rows']} rows",
        *_absent_line(result),
        f"Naive number, on the rows that chose it: {result['naive']:.4f} (optimism {result['optimism']:+.4f})",
        f"Against the best single model: {_compared(result['difference_to_best_single'])}",
        f"Rows below every threshold, which got their likeliest label: {result['filled']}",
    ]


def _absent_line(result: Row) -> list[str]:
    """Say what the rows cannot judge: it is missing from the honest number."""
    if not (absent := len(result["classes_absent"])):
        return []
    most = (len(LABELS) - absent) / len(LABELS)
    return [
        f"{absent} classes have no positive among these rows and count as 0: no model can reach more than {most:.4f} here; over "
        f"the other {len(LABELS) - absent} it is {result['macro_f1_present']:.4f}. Rows that hold them may well give more"
    ]


def last_lines(out: Path, result: Row) -> list[str]:
    """Return the last lines of the command: what came out, where it is, and what to type next."""
    return [
        *headline(result),
        f"Written: {out / 'SUMMARY.md'}, and ensemble.json, estimate.json, classes.csv, members.csv beside it",
        f"Next: {command('ensemble', '--apply', out, '--predictions', 'OTHER', '--out', 'labels.csv')}",
    ]


def _compared(difference: Row) -> str:
    """Say whether a difference is more than the chance of the rows."""
    verdict = "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "not distinguishable"
    return f"{verdict} ({difference['value']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}])"
