"""The first section: the number to publish, what it may be compared with, and whether the winner is told apart."""

from collections.abc import Mapping
from typing import Any

from hpa_search.report.facts import Facts
from hpa_search.report.page import Block, Points, Section, Text, table
from hpa_search.scoring.intervals import Interval
from hpa_search.scoring.report import compared, interval, over, told_apart


def answer(facts: Facts) -> Section:
    """Return the section. Before the final stage it tells the best objective, and why that is no result."""
    earlier = Text(
        "The search has gone on since: this is the result of an earlier final stage. `hpa-search finish OUT` makes a new one."
    )
    if facts.result and facts.state != "finished":
        return Section("The answer", (*_measured(facts.result, facts.search.name), earlier))
    return Section("The answer", tuple(_measured(facts.result, facts.search.name) if facts.result else _unfinished(facts)))


def _unfinished(facts: Facts) -> list[Block]:
    metric = facts.search.objective.metric
    if not facts.ranked:
        return [Text("No trial has finished an epoch yet.", lead=True)]
    best = facts.ranked[0]
    return [
        Text(
            f"No final stage yet. Best {metric} so far: {best.best:.4f}, by trial {best.number} after epoch {best.best_epoch}.",
            lead=True,
        ),
        Text(
            "This number chose the trial, so it is too high. `hpa-search finish OUT` chooses an ensemble of the present trials, and "
            "measures it, on the test rows if the split has any."
        ),
    ]


def _measured(result: Mapping[str, Any], own: str) -> list[Block]:
    test, nested = result["test"], result["nested"]
    labels, rows = over(result["labels"]), ""
    if nested is not None:
        rows = f"{nested['rows']} {'rows outside the test part' if nested['networks'] > 1 else 'validation rows'}"
    blocks: list[Block] = []
    if test is not None:
        blocks += [
            Text(f"Macro F1{labels} {_in_words(Interval(**test['ensemble']))}", lead=True),
            Text(
                f"Measured on the {result['rows']['test']} test images of this dataset's split, on which nothing was chosen. It may be "
                "compared with other models on the same test images. Other images have other label frequencies, and macro F1 "
                "depends on them: a number of a leaderboard or of another split is no measure for this one."
            ),
        ]
    elif nested is not None:
        blocks += [
            Text(f"Macro F1{labels} {_in_words(_value(nested))}, by a nested estimate", lead=True),
            Text(
                f"The split has no test rows. On the {rows}, members, calibration and thresholds were chosen "
                "again in each fold, on the other folds. But the search chose its trials and epochs on the validation rows, so the number is "
                "somewhat too high. Give `split.test` a share of the rows for a number that may be published."
            ),
        ]
    else:
        blocks.append(
            Text("There are neither test rows nor groups enough for a nested estimate, so nothing honest can be said.", lead=True)
        )
    points = [
        *_against(result, own),
        *([_nested_line(nested, rows)] if test is not None and nested is not None else []),
        *([f"Every label on every image would score {test['floor']:.4f}."] if test is not None else []),
    ]
    return [*blocks, *([Points(tuple(points))] if points else []), *_members(result)]


def _named(trial: Mapping[str, Any], own: str) -> str:
    """Return the name of a trial, with its search if that is not the report's own."""
    return f"trial {trial['trial']}" + ("" if trial["search"] == own else f" of {trial['search']}")


def _against(result: Mapping[str, Any], own: str) -> list[str]:
    """Compare the ensemble with the best trial, and the best trial with the runner-up."""
    lines, test, second = [], result["test"], result["runner_up"]
    best = _named(result["best_single"], own)
    if test is not None:
        lines.append(
            f"The ensemble of {len(result['members'])} against {best} alone, which has {interval(Interval(**test['best_single']))}: "
            f"{compared(Interval(**test['difference']))}."
        )
    if second is not None:
        difference = Interval(**second["difference"])
        apart = "are told apart" if told_apart(difference) else "are not told apart by these rows"
        lines.append(
            f"Winner and runner-up {apart}: macro AP of {best} minus that of {_named(second, own)} on the rows "
            f"that ranked them: {compared(difference)}."
        )
    return lines


def _nested_line(nested: Mapping[str, Any], rows: str) -> str:
    return (
        f"Nested estimate on the {rows}: {interval(_value(nested))}. Chosen and measured on the same rows it "
        f"would be {nested['naive']:.4f}, too high by {nested['optimism']:.4f}."
    )


def _in_words(found: Interval) -> str:
    return f"{found.value:.4f}, {found.level:.0%} interval {found.low:.4f} to {found.high:.4f}".replace("%", " %")


def _value(nested: Mapping[str, Any]) -> Interval:
    return Interval(nested["value"], nested["low"], nested["high"], nested["level"])


def _members(result: Mapping[str, Any]) -> list[Block]:
    rows = [
        {"trial": member["trial"], "search": member["search"], "epoch": member["epoch"], "weight": f"{member['weight']:.2f}"}
        for member in result["members"]
    ]
    final = result["final"]
    how = f"Members by {final['ensemble']}, thresholds by {final['thresholds']}, test-time augmentation {final['tta']}"
    return [table(how, rows)] if rows else []
