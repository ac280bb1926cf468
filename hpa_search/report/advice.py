"""What to try next: what the numbers of this search suggest, each with its reason."""

import numpy as np

from hpa_search.report.facts import Facts
from hpa_search.report.page import Points, Section, Text
from hpa_search.scoring.appraisal import RARE
from hpa_search.scoring.intervals import Interval
from hpa_search.scoring.report import told_apart

EDGE = 0.05
"""The share of a range, on its scale, that counts as its edge."""
BEST = 5
SEEDS = "replicate"
"""The dimension that repeats a configuration with other seeds."""
LITTLE = 0.02
"""A parameter with a smaller share of what decides may as well be fixed."""
ENOUGH = 20
"""The number of trials below which nothing is said about parameters."""


def advice(facts: Facts) -> Section:
    """Return the section; it says so where nothing stands out."""
    if not facts.ranked:
        return Section("What to try next", ())
    points = (
        *_edges(facts),
        *_choices(facts),
        *_still_rising(facts),
        *_unimportant(facts),
        *_apart(facts),
        *_rare(facts),
        *_failed(facts),
    )
    if not points:
        return Section(
            "What to try next", (Text("Nothing stands out: no range is too narrow, and the best trials have stopped rising."),)
        )
    return Section("What to try next", (Points(points),))


def _edges(facts: Facts) -> list[str]:
    """Name the ranges at whose edge most of the best trials lie."""
    lines, best = [], facts.ranked[:BEST]
    for name, dimension in facts.search.space.items():
        values = [trial.parameters[name] for trial in best if trial.parameters.get(name) is not None]
        if dimension.choice is not None or len(values) < 3:
            continue
        low, high = dimension.bounds
        scale = np.log if dimension.log_range is not None else np.asarray
        places = (scale(np.array(values, dtype=float)) - scale(low)) / (scale(high) - scale(low))
        for at_edge, bound, way in ((places < EDGE, low, "below"), (places > 1 - EDGE, high, "above")):
            if at_edge.sum() > len(values) / 2:
                lines.append(
                    f"{name}: most of the best trials lie at {bound:g}, the edge of its range. Widen the range {way} it."
                )
    return lines


def _choices(facts: Facts) -> list[str]:
    """Name the choices that all of the best trials share."""
    if len(facts.ranked) < ENOUGH:
        return []
    lines, best = [], facts.ranked[: 2 * BEST]
    for name, dimension in facts.search.space.items():
        values = {repr(trial.parameters.get(name)) for trial in best}
        if name != SEEDS and len(dimension.choice or ()) > 1 and len(values) == 1 and best[0].parameters.get(name) is not None:
            lines.append(
                f"{name}: the best {len(best)} trials all have {best[0].parameters[name]}. Fix it, and spend the trials on the rest."
            )
    return lines


def _still_rising(facts: Facts) -> list[str]:
    top = facts.search.rungs[-1]
    finished = [trial for trial in facts.ranked[: 2 * BEST] if trial.epochs >= top]
    rising = [trial for trial in finished if trial.best_epoch >= top - max(1, top // 20)]
    if finished and len(rising) > len(finished) / 2:
        return [
            f"{len(rising)} of the {len(finished)} best trials that were trained to the end were best in their last epochs. Raise scheduler.max_epochs above {top}."
        ]
    return []


def _unimportant(facts: Facts) -> list[str]:
    if len(facts.ranked) < ENOUGH:
        return []
    little = [
        one.name for one in facts.importances if one.share < LITTLE and one.name != SEEDS and one.trials == len(facts.ranked)
    ]
    share = f"{LITTLE:.0%}".replace("%", " %")
    return [f"Each of these decides less than {share} of which trials are best: {', '.join(little)}. Fix them."] if little else []


def _apart(facts: Facts) -> list[str]:
    second = facts.result["runner_up"] if facts.result else None
    if second is None or told_apart(Interval(**second["difference"])):
        return []
    return [
        "Winner and runner-up cannot be told apart by these validation rows. Before you conclude that a setting is better, repeat both with "
        "several seeds (`replicate`), and compare them by `hpa-search compare`."
    ]


def _rare(facts: Facts) -> list[str]:
    if not facts.result:
        return []
    rare = [facts.labels[label] for label in facts.result["labels"] if facts.result["positives"]["train"][label] < 2 * RARE]
    if not rare:
        return []
    return [
        f"{', '.join(rare)}: fewer than {2 * RARE} training images each. Macro F1 weighs them like the others; more images of them "
        "(`--external`), or `sampling` that repeats them, may gain more than another setting."
    ]


def _failed(facts: Facts) -> list[str]:
    failed = [trial for trial in facts.trials if trial.state == "failed"]
    if len(failed) <= len(facts.trials) / 20:
        return []
    return [
        f"{len(failed)} of {len(facts.trials)} trials failed, the last with: {failed[-1].ended}. Exclude what makes them fail."
    ]
