"""The last lines of a search: what came out, where it is, and what to type next."""

from pathlib import Path
from typing import Any


def summary(out: Path, result: dict[str, Any]) -> list[str]:
    """Return the lines for the ``result`` of the search in ``out``."""
    members = ", ".join(f"trial {m['trial']} epoch {m['epoch']} x {m['weight']:.2f}" for m in result["members"])
    submission = out / "submission.csv"
    return [
        f"Ensemble of {len(result['members'])}: {members}",
        *(_test_lines(result) if result["test"] else ["No test split: the nested estimate is the number to go by."]),
        *_nested_lines(result["nested"]),
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
        f"Test macro F1 ({result['rows']['test']} images that nothing was chosen on):",
        f"  ensemble            {interval(test['ensemble'])}",
        f"  best single trial   {interval(test['best_single'])}  (trial {result['best_single']['trial']})",
        f"  difference          {interval(difference)}{unclear}",
        f"  predict everything  {test['floor']:.4f}  (the floor)",
    ]


def _nested_lines(nested: dict[str, float] | None) -> list[str]:
    if nested is None:
        return ["No nested estimate: the validation rows are all of one group."]
    return [
        f"Nested estimate on the validation rows: {interval(nested)}; leans high: trials and epochs were chosen on them too",
        f"  (chosen and measured on the same rows it would be {nested['naive']:.4f}: too good by {nested['optimism']:.4f})",
    ]
