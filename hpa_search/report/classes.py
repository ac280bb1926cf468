"""The classes: F1 against frequency, the effect of thresholds, and which labels are taken for which."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from hpa_search.figures.confusion import confusion
from hpa_search.figures.drawing import BLUE, ORANGE, drawing
from hpa_search.report.facts import Facts, Judged
from hpa_search.report.page import Block, Picture, Section, Text, table
from hpa_search.scoring.metrics import f1_per_class

MOST_PAIRS = 12


def classes(facts: Facts) -> tuple[Section, ...]:
    """Return the sections on the classes; none before the final stage, and none if it had no nested estimate."""
    if not facts.result or not facts.result["classes"]:
        return ()
    found: list[Section] = [Section("Classes", (*_frequency(facts, facts.result), _table(facts, facts.result)))]
    if facts.predictions is not None:
        found.append(Section("Thresholds", (_thresholds(facts, facts.predictions),)))
        found.append(Section("Labels confused", _confused(facts, facts.predictions)))
    return tuple(found)


def _f1(result: Mapping[str, Any]) -> tuple[str, dict[int, Mapping[str, float]]]:
    """Return where the F1 of the classes was measured, and the F1 by label id."""
    if result["test"] is not None:
        return "test", {label: result["test"]["classes"][label] for label in result["labels"]}
    return "nested", {score["label"]: score["f1"] for score in result["classes"]}


def _frequency(facts: Facts, result: Mapping[str, Any]) -> tuple[Block, ...]:
    where, scores = _f1(result)
    counts = np.array([result["positives"]["train"][label] for label in scores])
    values = np.array([score["value"] for score in scores.values()])
    low = np.clip([score["low"] for score in scores.values()], 0, 1)
    high = np.clip([score["high"] for score in scores.values()], 0, 1)
    with drawing(height=4.2) as drawn:
        axes = drawn.axes
        at = np.maximum(counts, 0.5)
        axes.errorbar(
            at,
            values,
            yerr=[np.maximum(values - low, 0), np.maximum(high - values, 0)],
            fmt="o",
            color=BLUE,
            ecolor="#a8c8e0",
            markersize=4,
        )
        points: dict[tuple[float, float], list[str]] = {}
        for x, y, label in zip(at.tolist(), values.round(2).tolist(), scores, strict=True):
            points.setdefault((x, y), []).append(str(label))
        for point, ids in points.items():
            axes.annotate(", ".join(ids), point, xytext=(4, 3), textcoords="offset points", fontsize=7, color="#404040")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.set(xlabel="training images with the label", ylabel=f"F1, {where} rows", ylim=(-0.03, 1.03))
    words = "on the test rows" if where == "test" else "nested on the validation rows"
    caption = f"F1 of each class {words}, with its 90 % interval, against its frequency. Numbers are label ids; the table below names them."
    alt = f"F1 of {len(scores)} classes against their number of training images. The lowest is {values.min():.2f}, the highest {values.max():.2f}."
    return (Picture("f1_by_frequency", drawn.content, caption, alt),)


def _table(facts: Facts, result: Mapping[str, Any]) -> Block:
    tests = result["test"]["classes"] if result["test"] is not None else None
    rows = [
        {
            "label": f"{score['label']} {facts.labels[score['label']]}",
            "train": result["positives"]["train"][score["label"]],
            "validation": result["positives"]["validation"][score["label"]],
            "test": result["positives"]["test"][score["label"]],
            "threshold": f"{score['threshold']:.3f}",
            "F1, nested": _short(score["f1"]),
            **({"F1, test": _short(tests[score["label"]])} if tests else {}),
            "remark": score["verdict"],
        }
        for score in result["classes"]
    ]
    return table("Images with each label in the parts of the split, threshold on the calibrated probability, and F1", rows)


def _short(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} ({max(found['low'], 0):.3f} to {min(found['high'], 1):.3f})"


def _thresholds(facts: Facts, predictions: Judged) -> Block:
    """Draw F1 against the threshold, one small figure for each class."""
    grid = np.linspace(0, 1, 101)
    curves = np.stack([f1_per_class(predictions.probabilities > cut, predictions.labels) for cut in grid], axis=1)
    shown = [label for label in (facts.result or {})["labels"] if predictions.labels[:, label].any()]
    columns = 7
    lines = max(1, -(-len(shown) // columns))
    with drawing(width=11.0, height=1.45 * lines + 0.4, rows=lines, columns=columns) as drawn:
        for place, axes in enumerate(drawn.figure.axes):
            if place >= len(shown):
                axes.set_visible(False)
                continue
            label = shown[place]
            axes.plot(grid, curves[label], color=BLUE, linewidth=1.2)
            axes.axvline(predictions.thresholds[label], color=ORANGE, linewidth=1.2, linestyle="--")
            axes.set_title(_in_two_lines(f"{label} {facts.labels[label]}"), fontsize=6.5)
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"], fontsize=6)
            axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"] if place % columns == 0 else ["", "", ""], fontsize=6)
    caption = (
        f"F1 (blue) against the threshold on the {predictions.part} rows; the dashed orange line is the threshold in use. It was fitted on "
        "validation rows and calibrated probabilities, not to the peak of this curve: a peak over few positives is chance."
    )
    alt = f"F1 against the threshold for {len(shown)} classes, each with the threshold in use."
    return Picture("thresholds", drawn.content, caption, alt)


def _in_two_lines(text: str) -> str:
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 17 and len(lines) < 2:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _confused(facts: Facts, predictions: Judged) -> tuple[Block, ...]:
    counts = predictions.confused
    if not counts.any():
        return (Text("No image lacks one label and has another one too many."),)
    order = np.dstack(np.unravel_index(np.argsort(-counts, axis=None, kind="stable"), counts.shape))[0][:MOST_PAIRS]
    rows = [
        {
            "there, not predicted": f"{i} {facts.labels[i]}",
            "predicted, not there": f"{j} {facts.labels[j]}",
            "images": int(counts[i, j]),
            "of those with the first": f"{counts[i, j] / predictions.labels[:, i].sum():.0%}".replace("%", " %"),
        }
        for i, j in order.tolist()
        if counts[i, j]
    ]
    alt = f"How often a label was missed where another one was predicted in error, on the {predictions.part} rows. The table names the most frequent pairs."
    caption = f"Number of {predictions.part} images in which the label of the row was missed and the label of the column predicted in error."
    return (Picture("confused", confusion(counts, facts.labels), caption, alt), table("The most frequent pairs", rows))
