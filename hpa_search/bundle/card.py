"""The model card: what a bundle is, how good, and of what it is made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpa_search.bundle.manifest import Manifest
from hpa_search.files import write_text
from hpa_search.labels import NUM_LABELS


def write_card(bundle: Path, manifest: Manifest, result: Mapping[str, Any]) -> None:
    """Write the model card: what was measured and on which rows, the members, the thresholds of each class."""
    write_text(
        bundle / "MODEL_CARD.md",
        "\n".join(
            [
                *_card_head(manifest, result),
                "",
                *_card_members(manifest),
                *_card_ways(manifest, result),
                "",
                *_card_classes(manifest, result),
            ]
        )
        + "\n",
    )


def _card_head(manifest: Manifest, result: Mapping[str, Any]) -> list[str]:
    lines = [
        f"# {manifest.name}",
        "",
        f"An ensemble that labels images of four stained channels with {len(result['labels'])} protein locations.",
        "",
    ]
    if result["test"] is not None:
        test = result["test"]["ensemble"]
        lines += [
            f"- Test macro F1{_over(result)}: {_interval(test)}, on {result['rows']['test']} images that nothing was chosen on.",
            f"- Best single trial, same rows: {_interval(result['test']['best_single'])}.",
            f"- Predicting every label on every image: {result['test']['floor']:.4f}.",
        ]
    if (nested := result["nested"]) is not None:
        lines += [
            f"- Nested estimate on the validation rows{_over(result)}: {_interval(nested)}. Members, calibration and thresholds are chosen again "
            "in each fold; but the search chose trials and epochs on these rows, which flatters it.",
            *_card_caveats(result, nested),
            f"- The naive number on the same rows, which chose everything: {nested['naive']:.4f} (optimism {nested['optimism']:+.4f}).",
        ]
    return lines


def _card_caveats(result: Mapping[str, Any], nested: Mapping[str, Any]) -> list[str]:
    lines = []
    if absent := len(nested["classes_absent"]):
        lines.append(
            f"- {absent} of the {len(result['labels'])} labels have no positive among these rows and count as 0 in the nested "
            f"estimate; over the others it is {nested['macro_f1_present']:.4f}."
        )
    if nested["networks"] > 1:
        lines.append(
            "- In the nested estimate each row is judged by one network a member, and the rule was fitted so; the bundle averages "
            f"{nested['networks']}."
        )
    return lines


def _card_ways(manifest: Manifest, result: Mapping[str, Any]) -> list[str]:
    """Tell what else might have been done, by the nested estimate."""
    nested, final = result["nested"], result["final"]
    if nested is None:
        return []
    ways = [f"| {name} | {_interval(found)} | {_signed(nested['differences'][name])} |" for name, found in nested["ways"].items()]
    rules = [f"| {name} | {value:.4f} |" for name, value in nested["rules"].items()]
    return [
        "",
        "## Choices",
        "",
        f"Members by `{final['ensemble']}`, thresholds by `{final['thresholds']}`, test-time augmentation `{manifest.tta}`. Other "
        "ways to choose members, with the same thresholds:",
        "",
        "| members | nested macro F1 | the chosen way minus this |",
        "|---|---|---|",
        *ways,
        "",
        "Other rules, with members chosen in the same way:",
        "",
        "| thresholds | nested macro F1 |",
        "|---|---|",
        *rules,
    ]


def _signed(found: Mapping[str, float]) -> str:
    return f"{found['value']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def _trained_for(labels: tuple[int, ...] | None) -> str:
    return "all labels" if labels is None else f"labels {', '.join(map(str, labels))}"


def _over(result: Mapping[str, Any]) -> str:
    labels = result["labels"]
    return "" if len(labels) == NUM_LABELS else f" over the labels {', '.join(map(str, labels))} alone"


def _card_members(manifest: Manifest) -> list[str]:
    rows = [
        f"| {member.search} | {member.trial} | {member.epoch} | {member.weight:.2f} | {member.config.backbone} | {member.config.resolution} | "
        f"{member.config.input_size} | {member.config.channels} | {member.config.loss} | {_trained_for(member.labels)} |"
        for member in manifest.members
    ]
    return [
        "## Members",
        "",
        "| search | trial | epoch | weight | backbone | resolution | px | channels | loss | trained for |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _card_classes(manifest: Manifest, result: Mapping[str, Any]) -> list[str]:
    thresholds, tests = manifest.decision_rule.thresholds, result["test"]["classes"] if result["test"] else None
    nested = {one["label"]: one for one in result["classes"]}
    rows = []
    for index, name in enumerate(manifest.labels):
        one = nested.get(index)
        cells = (
            str(index),
            name,
            str(result["positives"]["validation"][index]),
            str(result["positives"]["test"][index]),
            f"{thresholds[index]:.4f}",
            _between(one["f1"]) if one else "",
            _between(tests[index]) if tests else "",
            one["verdict"] if one else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return [
        "## Classes",
        "",
        "A threshold is on the calibrated probability. F1 is nested on the rows that chose, and measured on the test rows, each "
        "with its 90 % interval.",
        "",
        "| id | label | positives, validation | positives, test | threshold | F1, nested | F1, test | remark |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _between(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} ({max(found['low'], 0):.3f} to {min(found['high'], 1):.3f})"


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:.4f} ({found['level']:.0%} interval {found['low']:.4f} to {found['high']:.4f})"
