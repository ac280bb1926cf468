"""What the search cost, and where the time went."""

from collections.abc import Mapping, Sequence

import numpy as np

from hpa_search.figures.drawing import BLUE, drawing
from hpa_search.ledger.times import WORDS
from hpa_search.report.facts import Facts, TrialFacts
from hpa_search.report.page import Block, Picture, Section, table

GROUPS = ("complete", "pruned", "paused", "running", "waiting", "failed")


def cost(facts: Facts) -> Section:
    """Return the section."""
    rows = [_row(state, [trial for trial in facts.trials if trial.state == state]) for state in GROUPS]
    shown = [row for row in rows if row["trials"]]
    if not shown:
        return Section("Cost", ())
    total = _row("all", facts.trials)
    blocks: list[Block] = [
        table("Trials by how they stand", [*shown, total]),
        table("The whole search", _whole(facts)),
    ]
    if facts.slot_seconds:
        blocks.append(table("Where the slots' time went, in the epochs that were reported", _by_parts(facts.slot_seconds)))
    if facts.ranked and any(trial.seconds for trial in facts.trials):
        blocks.append(_by_epochs(facts))
    return Section("Cost", tuple(blocks))


def _row(state: str, trials: Sequence[TrialFacts]) -> dict[str, object]:
    seconds = sum(trial.seconds for trial in trials)
    return {
        "state": state,
        "trials": len(trials),
        "epochs": sum(trial.epochs for trial in trials),
        "slot hours in epochs": f"{seconds / 3600:.2f}",
    }


def _by_parts(seconds: Mapping[str, float]) -> list[dict[str, object]]:
    total = sum(seconds.values())
    shares = {name: f"{spent / total:.1%}".replace("%", " %") for name, spent in seconds.items()}
    return [{"part": WORDS[name], "hours": f"{spent / 3600:.2f}", "share": shares[name]} for name, spent in seconds.items()]


def _whole(facts: Facts) -> list[dict[str, object]]:
    trained = sum(trial.seconds for trial in facts.trials)
    rates = [row["images_per_second"] for trial in facts.trials for row in trial.metrics if row.get("images_per_second")]
    budget = facts.search.budget
    found: list[tuple[str, str]] = [
        ("state", facts.state),
        ("hours with a slot", f"{facts.seconds / 3600:.2f}"),
        ("slot hours in epochs", f"{trained / 3600:.2f}"),
    ]
    if facts.seconds > 0:
        found.append(("slots in training on average", f"{trained / facts.seconds:.2f}"))
    if rates:
        found.append(
            ("images a second in training, median and extremes", f"{np.median(rates):.0f}, {min(rates):.0f} to {max(rates):.0f}")
        )
    if budget.epochs:
        spent = sum(trial.epochs for trial in facts.trials)
        found.append(("epochs of the budget in the search file", f"{spent} of {budget.epochs}"))
    found.append(("kept on disk", f"{facts.kept} (keep: {facts.search.keep})"))
    found.append(("images", ", ".join(f"{count} {part}" for part, count in facts.split_sizes.items())))
    return [{"what": what, "value": value} for what, value in found]


def _by_epochs(facts: Facts) -> Picture:
    """Draw the hours that went into trials of each length."""
    lengths = sorted({trial.epochs for trial in facts.trials if trial.epochs})
    hours = [sum(trial.seconds for trial in facts.trials if trial.epochs == length) / 3600 for length in lengths]
    counts = [sum(trial.epochs == length for trial in facts.trials) for length in lengths]
    with drawing(height=2.8) as drawn:
        axes = drawn.axes
        bars = axes.bar(range(len(lengths)), hours, color=BLUE)
        axes.bar_label(bars, [f"{count} trial{'s' if count > 1 else ''}" for count in counts], fontsize=7)
        axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
        axes.set(xlabel="epochs of a trial", ylabel="slot hours in epochs")
        axes.grid(axis="x", visible=False)
    share = f"{hours[-1] / max(sum(hours), 1e-9):.0%}".replace("%", " %")
    alt = f"Slot hours by the length of trials. The trials of {lengths[-1]} epochs took {share}."
    return Picture("cost", drawn.content, "Where the training time went: into trials of so many epochs.", alt)
