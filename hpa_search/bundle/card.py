"""The model card of a bundle."""

from collections.abc import Sequence
from pathlib import Path

from hpa_search.bundle.manifest import Manifest
from hpa_search.files import write_text
from hpa_search.scoring.intervals import Interval
from hpa_search.scoring.measured import MeasuredSearch, Nested
from hpa_search.scoring.report import Row, caveats, interval, naive, over, rule_rows, table, way_rows


def write_card(bundle: Path, manifest: Manifest, measured: MeasuredSearch) -> None:
    """Write MODEL_CARD.md into ``bundle``.

    It holds the scores and the rows they rest on, and the members. Tables compare other choices, and show each label.
    """
    parts = [
        _head(manifest, measured),
        ["## Members", "", *table(_member_rows(manifest))],
        *([_choices(measured, measured.nested)] if measured.nested else []),
        _classes(manifest, measured),
    ]
    write_text(bundle / "MODEL_CARD.md", "\n\n".join("\n".join(part) for part in parts) + "\n")


def _head(manifest: Manifest, measured: MeasuredSearch) -> list[str]:
    title = f"An ensemble that labels images of four stained channels with {len(measured.labels)} protein locations."
    return [f"# {manifest.name}", "", title, "", *(f"- {line}." for line in _scores(measured))]


def _scores(measured: MeasuredSearch) -> list[str]:
    lines, labels = [], over(measured.labels)
    if (test := measured.test) is not None:
        lines += [
            f"Test macro F1{labels}: {interval(test.ensemble)}, on {measured.rows['test']} images that nothing was chosen on",
            f"Best single trial, same rows: {interval(test.best_single)}",
            f"Predicting every label on every image: {test.floor:.4f}",
        ]
    if (nested := measured.nested) is not None:
        lines += [
            f"Nested estimate on {nested.rows} rows{labels}: {interval(nested.macro_f1)}. Members, calibration and thresholds "
            "are chosen again in each fold. But the search chose trials and epochs on these rows, which flatters the estimate",
            *(f"In the nested estimate, {line}" for line in caveats(nested)),
            f"The naive number on the same rows, which chose everything: {naive(nested)}",
        ]
    return lines


def _member_rows(manifest: Manifest) -> list[Row]:
    return [
        {
            "search": member.search,
            "trial": member.trial,
            "epoch": member.epoch,
            "weight": f"{member.weight:.2f}",
            "backbone": member.config.backbone,
            "resolution": member.config.resolution,
            "px": member.config.input_size,
            "channels": member.config.channels,
            "loss": member.config.loss,
            "trained for": _trained_for(member.labels),
        }
        for member in manifest.members
    ]


def _trained_for(labels: Sequence[int] | None) -> str:
    return "all labels" if labels is None else f"labels {', '.join(map(str, labels))}"


def _choices(measured: MeasuredSearch, nested: Nested) -> list[str]:
    """Return the nested estimates of the choices that were not made."""
    return [
        "## Choices",
        "",
        f"Members by `{measured.ensemble}`, thresholds by `{measured.thresholds}`, test-time augmentation `{measured.tta}`. "
        "Other ways to choose members, with the same thresholds:",
        "",
        *table(way_rows(measured, nested)),
        "",
        "Other rules for thresholds, with members chosen in the same way:",
        "",
        *table(rule_rows(nested)),
    ]


def _classes(manifest: Manifest, measured: MeasuredSearch) -> list[str]:
    return [
        "## Classes",
        "",
        "A threshold is on the calibrated probability. F1 is nested on the rows that chose, and measured on the test rows, each "
        "with its 90 % interval.",
        "",
        *table(_class_rows(manifest, measured)),
    ]


def _class_rows(manifest: Manifest, measured: MeasuredSearch) -> list[Row]:
    tests = measured.test.classes if measured.test else None
    nested = {score.label: score for score in measured.nested.classes} if measured.nested else {}
    rows: list[Row] = []
    for label, name in enumerate(manifest.labels):
        score = nested.get(label)
        rows.append(
            {
                "id": label,
                "label": name,
                "positives, validation": measured.positives["validation"][label],
                "positives, test": measured.positives["test"][label],
                "threshold": measured.rule.thresholds[label],
                "F1, nested": _short(score.f1) if score else "",
                "F1, test": _short(tests[label]) if tests else "",
                "remark": score.verdict if score else "",
            }
        )
    return rows


def _short(found: Interval) -> str:
    """Return an F1 with its interval, cut off at 0 and 1."""
    return f"{found.value:.3f} ({max(found.low, 0):.3f} to {min(found.high, 1):.3f})"
