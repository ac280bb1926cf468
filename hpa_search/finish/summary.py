"""The last lines of a search: what came out, where it is, and what to type next."""

from pathlib import Path
from typing import Any

from hpa_search.labels import NUM_LABELS


def summary(out: Path, result: dict[str, Any]) -> list[str]:
    """Return the lines for the ``result`` of the search in ``out``."""
    several = len({m["search"] for m in result["members"]}) > 1
    members = ", ".join(
        f"{m['search'] + ' ' if several else ''}trial {m['trial']} epoch {m['epoch']} x {m['weight']:.2f}"
        for m in result["members"]
    )
    submission = out / "submission.csv"
    return [
        f"Ensemble of {len(result['members'])}: {members}",
        *(_test_lines(result) if result["test"] else ["No test split: the nested estimate is the number to go by."]),
        *_nested_lines(result),
        f"Bundle: {out / 'bundle'}",
        *([f"Submission: {submission}"] if submission.is_file() else []),
        f"Next: hpa-search predict {out / 'bundle'} IMAGES --out submission.csv, or hpa-search tensorboard {out}",
    ]


def interval(found: dict[str, float]) -> str:
    """Return a value with its interval, as text."""
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}] {found['level']:.0%}"


def _test_lines(result: dict[str, Any]) -> list[str]:
    test, difference = result["test"], result["test"]["difference"]
    unclear = "" if difference["low"] > 0 or difference["high"] < 0 else ", not distinguishable"
    return [
        f"Test macro F1{_over(result)} ({result['rows']['test']} images that nothing was chosen on):",
        f"  ensemble            {interval(test['ensemble'])}",
        f"  best single trial   {interval(test['best_single'])}  ({_of(result)}trial {result['best_single']['trial']})",
        f"  difference          {interval(difference)}{unclear}",
        f"  predict everything  {test['floor']:.4f}  (the floor)",
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
    nested: dict[str, float] | None = result["nested"]
    if nested is None:
        return ["No nested estimate: the validation rows are all of one group."]
    return [
        f"Nested estimate on the validation rows{_over(result)}: {interval(nested)}; leans high: trials and epochs were chosen on them too",
        f"  (chosen and measured on the same rows it would be {nested['naive']:.4f}: too good by {nested['optimism']:.4f})",
    ]
