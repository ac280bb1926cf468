"""The trials: leaderboard, learning curves, parallel coordinates, and what the parameters explain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from hpa_search.figures.drawing import BLUE, GREY, ORANGE, SERIES, drawing
from hpa_search.report.facts import SHOWN, Facts, TrialFacts
from hpa_search.report.page import Block, Picture, Section, Text, table
from hpa_search.space.dimension import Dimension

ABSENT = "not used"
COMPARED = 8
"""The number of trials whose parameters stand side by side."""
MOST_TICKS = 12
_BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def trials(facts: Facts) -> tuple[Section, ...]:
    """Return the sections on the trials; none before a trial has a report."""
    ranked = facts.ranked
    if not ranked:
        return ()
    return (
        Section("Leaderboard", _leaderboard(facts, ranked)),
        Section("Learning curves", (_curves(facts), _progress(facts))),
        Section("Parameters", (*_parallel(facts), *_importance(facts))),
    )


def _leaderboard(facts: Facts, ranked: Sequence[TrialFacts]) -> tuple[Block, ...]:
    metric = facts.search.objective.metric
    shown = ranked[:SHOWN]
    rows = [
        {
            "trial": trial.number,
            f"best {metric}": trial.best,
            "macro AP and its 90 % interval": _interval(facts, trial),
            "macro F1": trial.at_best("macro_f1"),
            "at epoch": trial.best_epoch,
            "epochs": trial.epochs,
            "state": trial.state,
        }
        for trial in shown
    ]
    text = (
        f"The best {len(shown)} of {len(facts.trials)} trials, by {metric} at their best epoch on the validation rows. The search chose "
        "by these rows, so the numbers are too high; they are there to be compared with each other. Intervals that overlap much do "
        "not tell two trials apart."
    )
    settings = [
        {"parameter": name, **{f"trial {trial.number}": _shown(trial.parameters.get(name)) for trial in ranked[:COMPARED]}}
        for name in facts.search.space
    ]
    best = f"The parameters of the best {len(ranked[:COMPARED])}"
    return (Text(text), table("The best trials", rows), *([table(best, settings)] if settings else []))


def _interval(facts: Facts, trial: TrialFacts) -> str | None:
    found = facts.intervals.get(trial.number)
    return None if found is None else f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _curves(facts: Facts) -> Picture:
    rungs, best = facts.search.rungs, facts.ranked[0]
    with drawing(height=4.0) as drawn:
        axes = drawn.axes
        for rung in rungs:
            axes.axvline(rung, color="#c0c0c0", linewidth=0.8, linestyle=":")
        reached = set()
        for trial in sorted(facts.ranked, key=lambda one: one.epochs):
            level = sum(trial.epochs >= rung for rung in rungs)
            colour = SERIES[level % len(SERIES)] if level else GREY
            label = f"reached epoch {rungs[level - 1]}" if level else "below the first rung"
            epochs = sorted(trial.reports)
            axes.plot(
                epochs,
                [trial.reports[epoch] for epoch in epochs],
                color=colour,
                linewidth=2.2 if trial is best else 0.9,
                marker="o",
                markersize=2.5,
                alpha=1.0 if trial is best else 0.7,
                label=None if level in reached else label,
            )
            reached.add(level)
        axes.annotate(
            f" trial {best.number}",
            (best.best_epoch, best.best),
            va="bottom",
            ha="left",
            fontweight="bold",
            annotation_clip=False,
        )
        _log_epochs(axes, [trial.epochs for trial in facts.ranked])
        axes.set(xlabel="epoch", ylabel=facts.search.objective.metric)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    alt = (
        f"{facts.search.objective.metric} of {len(facts.ranked)} trials against the epoch. The best, trial {best.number}, reaches "
        f"{best.best:.4f} at epoch {best.best_epoch}."
    )
    caption = (
        "Each line is a trial, coloured by the highest rung that it reached; dotted lines are rungs, where the search compares."
    )
    return Picture("learning_curves", drawn.content, caption, alt)


def _log_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    """Show epochs on a logarithmic axis if there are many, as the rungs are."""
    if max(epochs) >= 9:
        ticks = [tick for tick in (1, 2, 3, 5, 9, 18, 27, 54, 81, 162, 243) if tick <= max(epochs)]
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()


def _progress(facts: Facts) -> Picture:
    numbers = [trial.number for trial in facts.trials if trial.reports]
    scores = np.array([trial.best for trial in facts.trials if trial.reports])
    with drawing(height=3.0) as drawn:
        axes = drawn.axes
        axes.scatter(numbers, scores, s=12, color=BLUE, label="trial")
        axes.step(numbers, np.maximum.accumulate(scores), where="post", color=ORANGE, linewidth=1.6, label="best so far")
        axes.set(xlabel="trial", ylabel=f"best {facts.search.objective.metric}")
        axes.legend(loc="lower right")
    last = int(np.argmax(scores))
    alt = f"Best {facts.search.objective.metric} of each trial in the order of their start. The best is trial {numbers[last]} of {len(facts.trials)}."
    return Picture(
        "progress", drawn.content, "Later trials should be better than the first ones: what the sampler learns shows here.", alt
    )


def _parallel(facts: Facts) -> tuple[Block, ...]:
    """Draw each trial as a line over its parameters. Optuna's own leaves out trials without a conditional parameter."""
    space = facts.search.space
    ranked = [trial for trial in facts.ranked if trial.expected is not None] or facts.ranked
    names = [name for name in space if len({repr(trial.parameters.get(name)) for trial in ranked}) > 1]
    if not names:
        return ()
    order = np.argsort([trial.expected if trial.expected is not None else trial.best for trial in ranked], kind="stable")
    with drawing(width=max(9.0, 1.1 * len(names)), height=4.2) as drawn:
        axes = drawn.axes
        places = {name: _Scale(space[name], [trial.parameters.get(name) for trial in ranked]) for name in names}
        best = len(ranked) - max(1, len(ranked) // 10)
        for place, index in enumerate(order):
            values = ranked[index].parameters
            heights = [places[name].at(values.get(name)) for name in names]
            is_best = place >= best
            axes.plot(
                range(len(names)),
                heights,
                color=ORANGE if is_best else BLUE,
                linewidth=1.6 if is_best else 0.7,
                alpha=0.9 if is_best else 0.25,
                zorder=3 if is_best else 2,
            )
        for place, name in enumerate(names):
            axes.axvline(place, color="#808080", linewidth=0.8)
            for height, label in places[name].ticks:
                axes.annotate(
                    label,
                    (place, height),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    zorder=4,
                    bbox=_BEHIND,
                )
        axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
    text = f'Each line is a trial. Orange: the best tenth by expected score. A trial without a parameter passes at "{ABSENT}".'
    alt = f"Parallel coordinates of {len(ranked)} trials over {len(names)} parameters: {', '.join(names)}."
    return (Picture("parameters", drawn.content, text, alt),)


class _Scale:
    """Brings the values of a parameter to heights from 0 to 1; trials without it pass below."""

    def __init__(self, dimension: Dimension, values: Sequence[Any]) -> None:
        self._choices = None if dimension.choice is None else [repr(choice) for choice in dimension.choice]
        self._is_log = dimension.log_range is not None
        if self._choices is None:
            self._low, self._high = (self._number(bound) for bound in dimension.bounds)
            ends = dimension.bounds
            self.ticks = [(0.0, f"{ends[0]:.3g}"), (1.0, f"{ends[1]:.3g}")]
        else:
            assert dimension.choice is not None
            step = max(1, -(-len(self._choices) // MOST_TICKS))
            self.ticks = [(self.at(choice), str(choice)) for choice in dimension.choice[::step]]
        if None in values and "None" not in (self._choices or ()):
            self.ticks.append((-0.12, ABSENT))

    def at(self, value: Any) -> float:
        """Return the height of a value."""
        if self._choices is not None and repr(value) in self._choices:
            return self._choices.index(repr(value)) / max(len(self._choices) - 1, 1)
        if value is None:
            return -0.12
        return (self._number(value) - self._low) / max(self._high - self._low, 1e-12)

    def _number(self, value: float) -> float:
        return float(np.log(value)) if self._is_log else float(value)


def _importance(facts: Facts) -> tuple[Block, ...]:
    if not facts.importances:
        return (Text("Too few trials with a score, or parameters without a second value, to say what the parameters explain."),)
    rows: list[Mapping[str, Any]] = [
        {
            "parameter": one.name,
            "share": f"{one.share:.0%}".replace("%", " %"),
            "trials that have it": one.trials,
        }
        for one in facts.importances
    ]
    text = (
        "How much each parameter decides whether a trial is among the best fifth, by expected score (PED-ANOVA, Watanabe et al. 2023). "
        "The trials were not drawn at random, so small shares mean little."
    )
    return (Text(text), table("What decides whether a trial is among the best", rows))
