"""The last lines of a search: what came out, where it is, and what to type next."""

from typing import Any

from hpa_search.hints import command
from hpa_search.labels import NUM_LABELS
from hpa_search.storage.place import Location

MOST_NAMED = 5


def summary(out: Location, result: dict[str, Any]) -> list[str]:
    """Return the lines for the ``result`` of the search in ``out``."""
    return [
        _members_line(result),
        *(_test_lines(result) if result["test"] else ["No test split: the nested estimate is the number to go by."]),
        *_nested_lines(result),
        *_runner_up_lines(result),
        *_class_lines(result),
        f"Bundle: {out / 'bundle'}, with its tables in MODEL_CARD.md",
        *([f"Submission: {out / 'submission.csv'}"] if result["submission"] else []),
        f"Next: {command('predict', out / 'bundle', 'IMAGES', '--out', 'submission.csv')}, or {command('tensorboard', out)}",
    ]


def interval(found: dict[str, float]) -> str:
    """Return a value with its interval, as text."""
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}] {found['level']:.0%}"


def unclear(difference: dict[str, float]) -> str:
    """Return what is to be said after a difference whose interval holds 0."""
    return "" if difference["low"] > 0 or difference["high"] < 0 else ", not distinguishable"


def _members_line(result: dict[str, Any]) -> str:
    several = len({m["search"] for m in result["members"]}) > 1
    named = [
        f"{m['search'] + ' ' if several else ''}trial {m['trial']} epoch {m['epoch']} x {m['weight']:.2f}"
        for m in result["members"]
    ]
    views = "" if result["final"]["tta"] == "none" else f", each the {result['final']['tta']} over eight views of an image"
    return f"Ensemble of {len(named)}: {', '.join(named)}{views}"


def _test_lines(result: dict[str, Any]) -> list[str]:
    test, difference = result["test"], result["test"]["difference"]
    return [
        f"Test macro F1{_over(result)} ({result['rows']['test']} images that nothing was chosen on):",
        f"  ensemble            {interval(test['ensemble'])}",
        f"  best single trial   {interval(test['best_single'])}  ({_of(result)}trial {result['best_single']['trial']})",
        f"  difference          {interval(difference)}{unclear(difference)}",
        f"  predict everything  {test['floor']:.4f}  (the floor)",
        *(
            [f"  {test['rows_filled']} images were below all thresholds and got their likeliest label"]
            if test["rows_filled"]
            else []
        ),
    ]


def _of(result: dict[str, Any]) -> str:
    """Name the search of the best single trial, where the ensemble is of several."""
    several = {m["search"] for m in result["members"]} | {result["best_single"]["search"]}
    return f"{result['best_single']['search']} " if len(several) > 1 else ""


def _over(result: dict[str, Any]) -> str:
    """Say which labels macro F1 is over, where these are not all."""
    labels = result["labels"]
    return "" if len(labels) == NUM_LABELS else f" over the {len(labels)} labels {', '.join(map(str, labels))} alone"


def _nested_lines(result: dict[str, Any]) -> list[str]:
    nested: dict[str, Any] | None = result["nested"]
    if nested is None:
        return ["No nested estimate: the validation rows are all of one group."]
    return [
        f"Nested estimate on {nested['rows']} rows{_over(result)}: {interval(nested)}; the search chose its trials on them, which flatters",
        f"  (chosen and measured on the same rows it would be {nested['naive']:.4f}: optimism {nested['optimism']:+.4f})",
        *_caveats(result, nested),
    ]


def _caveats(result: dict[str, Any], nested: dict[str, Any]) -> list[str]:
    """Say what makes the nested estimate too low."""
    lines = []
    if absent := len(nested["classes_absent"]):
        lines.append(
            f"  {absent} of the {len(result['labels'])} labels have no positive among these rows and count as 0; over the others it "
            f"is {nested['macro_f1_present']:.4f}"
        )
    if nested["networks"] > 1:
        lines.append(
            f"  each row is judged by one network a member, and the rule was fitted so; the bundle averages {nested['networks']}"
        )
    return lines


def _runner_up_lines(result: dict[str, Any]) -> list[str]:
    second, best = result["runner_up"], result["best_single"]
    if second is None:
        return []
    return [
        f"Trial {best['trial']} against the runner-up, trial {second['trial']}, on the rows that ranked them: macro AP "
        f"{interval(second['difference'])}{unclear(second['difference'])}"
    ]


def _class_lines(result: dict[str, Any]) -> list[str]:
    """Say which classes the numbers know little about."""
    rare = [one["label"] for one in result["classes"] if one["verdict"]]
    if not rare:
        return []
    named = ", ".join(map(str, rare[:MOST_NAMED])) + (f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else "")
    return [f"Labels {named} have too few positives to be judged; see the classes in the model card."]
