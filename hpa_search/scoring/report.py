"""What a final stage measured, as the text that terminal, model card and summary page share."""

from collections.abc import Mapping, Sequence
from typing import Any

from hpa_search.labels import NUM_LABELS
from hpa_search.scoring.intervals import Interval
from hpa_search.scoring.measured import Measured, Member, Nested, Snapshot

Row = Mapping[str, Any]
"""A row of a table: its cells by the titles of their columns."""


def interval(found: Interval) -> str:
    """Return a value and its interval: "0.5200 [0.4700, 0.5700] 90%"."""
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}] {found.level:.0%}"


def told_apart(difference: Interval) -> bool:
    """Return whether a difference exceeds the chance of the rows."""
    return difference.low > 0 or difference.high < 0


def compared(difference: Interval) -> str:
    """Return whether a difference exceeds the chance of the rows, with its numbers.

    An example is "better (+0.0200 [+0.0100, +0.0300] 90%)".
    """
    verdict = "better" if difference.low > 0 else "worse" if difference.high < 0 else "not distinguishable"
    return f"{verdict} ({difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] {difference.level:.0%})"


def over(labels: Sequence[int]) -> str:
    """Return the words that name the labels of a macro F1, empty for all labels."""
    return "" if len(labels) == NUM_LABELS else f" over the {len(labels)} labels {', '.join(map(str, labels))} alone"


def named(members: Sequence[Member]) -> str:
    """Return the members with their weights.

    A trial is named with its search only if the members come from several searches.
    """
    several = len({one.source.search for one in members if isinstance(one.source, Snapshot)}) > 1
    return ", ".join(f"{_source(one.source, several)} x {one.weight:.2f}" for one in members)


def _source(source: Snapshot | str, with_search: bool) -> str:
    if isinstance(source, str):
        return source
    return f"{source.search + ' ' if with_search else ''}trial {source.trial} epoch {source.epoch}"


def naive(nested: Nested) -> str:
    """Return macro F1 on the rows that chose everything, and its optimism."""
    return f"{nested.naive:.4f} (optimism {nested.optimism:+.4f})"


def caveats(nested: Nested) -> list[str]:
    """Return the reasons why the nested estimate is too low, as sentences without a full stop."""
    lines, scored = [], len(nested.classes)
    if absent := len(nested.absent):
        most = (scored - absent) / scored
        lines.append(
            f"{absent} of the {scored} labels have no positive among these rows and count as 0: no ensemble can reach more than "
            f"{most:.4f} here; over the other {scored - absent} it is {nested.present_only:.4f}. "
            "Rows with such positives may score higher"
        )
    if nested.networks > 1:
        lines.append(
            "each row is predicted by one network of a member, and the rule is fitted to that; "
            f"the bundle averages {nested.networks}"
        )
    return lines


def way_rows(measured: Measured, nested: Nested) -> list[Row]:
    """Return a row for the choice that was made, and one for each other way to choose members."""
    count = min(measured.max_members, measured.candidates)
    names = {"single": "single: the best alone", "uniform": f"uniform: the best {count} with equal weights"}
    chosen = _way_row(f"{measured.ensemble}: this ensemble", nested.macro_f1, "")
    others = [_way_row(names[way], found, compared(nested.differences[way])) for way, found in nested.ways.items()]
    return [chosen, *others]


def _way_row(members: str, found: Interval, chosen_is: str) -> Row:
    return {"members": members, "nested macro F1": interval(found), "this ensemble is": chosen_is}


def rule_rows(nested: Nested) -> list[Row]:
    """Return a row for each rule for thresholds, the best first."""
    return [{"thresholds": name, "nested macro F1": f1} for name, f1 in sorted(nested.rules.items(), key=lambda pair: -pair[1])]


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table.

    Floats have four digits. A "|" in a text is escaped, and a line break becomes a space.
    """
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
