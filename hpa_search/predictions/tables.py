"""The output of `ensemble`: tables for programs, a page for a person, and the last lines of the command."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hpa_search.hints import command
from hpa_search.labels import LABELS
from hpa_search.predictions.chosen import Chosen
from hpa_search.predictions.reading import Predictions
from hpa_search.scoring.measured import Measured, Nested
from hpa_search.scoring.metrics import macro_average_precision
from hpa_search.scoring.report import Row, caveats, compared, interval, naive, named, rule_rows, table, way_rows


def member_rows(given: Predictions, chosen: Chosen) -> list[Row]:
    """Return a row for each model: its name, its weight, and its own macro AP.

    The largest weight comes first.
    """
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


def class_rows(measured: Measured) -> list[Row]:
    """Return a row for each label. F1 and its interval are nested."""
    platt = measured.rule.platt
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
            "slope": platt.slope[score.label],
            "offset": platt.offset[score.label],
            "verdict": score.verdict,
        }
        for score in _nested(measured).classes
    ]


def to_csv(rows: Sequence[Row]) -> str:
    """Return ``rows`` as CSV with a header. Floats have six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row.values()] for row in rows)
    return text.getvalue()


def summary(measured: Measured, members: Sequence[Row], classes: Sequence[Row]) -> str:
    """Return the page for a person, in Markdown."""
    nested = _nested(measured)
    parts = [
        "# Ensemble",
        "\n".join(f"- {line}" for line in headline(measured)),
        f"A nested number is measured on rows that took no part in the choice: in {nested.folds} folds, models, weights, "
        "calibration and thresholds are chosen again on the other rows. Intervals are from bootstrap redraws of the rows.",
        "## Ways to choose",
        "\n".join(table(way_rows(measured, nested))),
        "## Models",
        "\n".join(table(members)),
        "A weight is a model's share of the mean of logits. Before, each model is calibrated and brought to one scale. "
        "Macro AP is the model's own.",
        "## Thresholds by other rules",
        "\n".join(table(rule_rows(nested))),
        "Members are chosen and the rule is fitted again in each fold.",
        "## Classes",
        "\n".join(table(classes)),
        "A threshold is on the calibrated probability, sigmoid(slope x logit + offset). A verdict says how a label with too "
        "few positives was decided.",
    ]
    return "\n\n".join(parts) + "\n"


def headline(measured: Measured) -> list[str]:
    """Return the lines that say how good the ensemble is."""
    nested = _nested(measured)
    return [
        f"Ensemble of {len(measured.members)} of {measured.candidates}: {named(measured.members)}",
        f"Nested macro F1: {interval(nested.macro_f1)}, over all {len(measured.labels)} labels, {nested.rows} rows",
        *caveats(nested),
        f"Naive number, on the rows that chose it: {naive(nested)}",
        f"Against the best single model: {compared(nested.differences['single'])}",
        f"Rows below every threshold, which got their likeliest label: {nested.filled}",
    ]


def last_lines(out: Path, measured: Measured) -> list[str]:
    """Return the last lines of the command: the headline, the files, and the next command."""
    return [
        *headline(measured),
        f"Written: {out / 'SUMMARY.md'}, and ensemble.json, estimate.json, classes.csv, members.csv beside it",
        f"Next: {command('ensemble', '--apply', out, '--predictions', 'OTHER', '--out', 'labels.csv')}",
    ]


def _nested(measured: Measured) -> Nested:
    assert measured.nested is not None  # `make_ensemble` refuses rows that are all of one group
    return measured.nested
