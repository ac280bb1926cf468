"""The last lines of a search: the scores of the bundle, its place, and the next commands."""

from hpa_search.hints import command
from hpa_search.scoring.measured import HeldOut, MeasuredSearch, Snapshot
from hpa_search.scoring.report import caveats, compared, interval, naive, named, over
from hpa_search.storage.place import Location

MOST_NAMED = 5


def summary(out: Location, measured: MeasuredSearch) -> list[str]:
    """Return the lines about what was ``measured`` in the search in ``out``."""
    return [
        _members_line(measured),
        *(
            _test_lines(measured, measured.test)
            if measured.test
            else ["No test split: the nested estimate is the number to go by."]
        ),
        *_nested_lines(measured),
        *_runner_up_lines(measured),
        *_class_lines(measured),
        f"Bundle: {out / 'bundle'}, with its tables in MODEL_CARD.md",
        *([f"Submission: {out / 'submission.csv'}"] if measured.submission else []),
        f"Next: {command('predict', out / 'bundle', 'IMAGES', '--out', 'submission.csv')}, or {command('tensorboard', out)}",
    ]


def _members_line(measured: MeasuredSearch) -> str:
    views = "" if measured.tta == "none" else f", each the {measured.tta} over eight views of an image"
    return f"Ensemble of {len(measured.members)}: {named(measured.members)}{views}"


def _test_lines(measured: MeasuredSearch, test: HeldOut) -> list[str]:
    filled = f"  {test.filled} images were below all thresholds and got their likeliest label"
    return [
        f"Test macro F1{over(measured.labels)} ({measured.rows['test']} images that nothing was chosen on):",
        f"  ensemble            {interval(test.ensemble)}",
        f"  best single trial   {interval(test.best_single)}  ({_of(measured)}trial {measured.best_single.trial})",
        f"  the ensemble is     {compared(test.difference)}",
        f"  predict everything  {test.floor:.4f}  (the floor)",
        *([filled] if test.filled else []),
    ]


def _of(measured: MeasuredSearch) -> str:
    """Return the name of the best single trial's search, empty if all trials are of one search."""
    best = measured.best_single.search
    searches = {member.source.search for member in measured.members if isinstance(member.source, Snapshot)}
    return f"{best} " if len(searches | {best}) > 1 else ""


def _nested_lines(measured: MeasuredSearch) -> list[str]:
    nested = measured.nested
    if nested is None:
        return ["No nested estimate: the validation rows are all of one group."]
    return [
        f"Nested estimate on {nested.rows} rows{over(measured.labels)}: {interval(nested.macro_f1)}; the search chose its trials "
        "on these rows, which flatters the estimate",
        f"  chosen and measured on the same rows it would be {naive(nested)}",
        *(f"  {line}" for line in caveats(nested)),
    ]


def _runner_up_lines(measured: MeasuredSearch) -> list[str]:
    second, best = measured.runner_up, measured.best_single
    if second is None:
        return []
    return [
        f"Trial {best.trial} against the runner-up, trial {second.source.trial}, on the rows that ranked them, by macro AP: "
        f"{compared(second.difference)}"
    ]


def _class_lines(measured: MeasuredSearch) -> list[str]:
    """Name the labels that have too few positives."""
    rare = [score.label for score in measured.nested.classes if score.verdict] if measured.nested else []
    if not rare:
        return []
    listed = ", ".join(map(str, rare[:MOST_NAMED])) + (f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else "")
    return [f"Labels {listed} have too few positives to be judged; see the classes in the model card."]
