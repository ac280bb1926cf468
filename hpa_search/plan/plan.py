"""The plan of a search: trials at each rung, epochs, hours, disk; and the settings that cannot work."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import torch

from hpa_search.errors import UserError
from hpa_search.plan.earlier import Earlier, epoch_like
from hpa_search.plan.probe import Probed, cost_like
from hpa_search.plan.simulate import MOST_EPOCHS, Cost, Simulated, simulate
from hpa_search.search.leg import Leg
from hpa_search.space.search import Search
from hpa_search.space.settings import Resources

GB = 1e9
MOST_TOLD_TRIALS, MOST_TOLD_EPOCHS = 1000, 5000
"""The sizes of searches that are simulated before they run: that takes a second or two."""


@dataclass(frozen=True)
class Plan:
    """A search on ``slots`` slots: how it goes, and what was probed for that.

    ``least_bytes`` and ``most_bytes`` are on disk at most, if all trials that are kept were the smallest or the largest of the probed.
    """

    search: Search
    slots: int
    simulated: Simulated
    probed: tuple[Probed, ...]
    least_bytes: int
    most_bytes: int

    def lines(self, now: datetime, free: int) -> list[str]:
        """Return the plan in words. ``free`` is the number of bytes that are free where the search writes."""
        run = self.simulated
        ends = now + timedelta(seconds=run.seconds)
        when = f"{ends:%H:%M}" if ends.date() == now.date() else f"{ends:%Y-%m-%d %H:%M}"
        epochs = [one.cost.epoch for one in self.probed]
        return [
            in_short(self.search, run),
            f"Time: {_hours(run.seconds)} on {self.slots} slot(s), until about {when}; {_hours(run.slot_seconds)} of slot time. "
            "Start and final stage come on top.",
            f"Disk: at most {run.most_bytes / GB:.2f} GB of weights and checkpoints{self._by_which}, {run.last_bytes / GB:.2f} GB at the "
            f"end (keep: {self.search.keep}); {free / GB:.0f} GB are free.",
            f"Measured on {len(self.probed)} of its trials: {min(epochs):.1f} to {max(epochs):.1f} s an epoch, "
            f"{max(one.cost.weights + one.cost.checkpoint for one in self.probed) / GB:.2f} GB at most.",
        ]

    @property
    def _by_which(self) -> str:
        """How far the disk depends on which trials are kept, empty if it does not."""
        if self.most_bytes - self.least_bytes < self.simulated.most_bytes / 10:
            return ""
        return f" ({self.least_bytes / GB:.2f} to {self.most_bytes / GB:.2f} by which networks turn out best)"


def make_plan(search: Search, slots: int, probed: tuple[Probed, ...], earlier: Sequence[Earlier] = (), rows: int = 0) -> Plan:
    """Return the plan of ``search`` on ``slots`` slots, with the costs that were ``probed``.

    Trials like those of ``earlier`` searches take as long as they did, for the ``rows`` training rows.
    """

    def cost_of(leg: Leg) -> Cost:
        config = search.trial_config(leg.parameters)
        cost, seconds = cost_like(probed, config), epoch_like(earlier, config, probed[0].device, rows)
        return cost if seconds is None else replace(cost, epoch=seconds)

    def all_like(one: Probed) -> Callable[[Leg], Cost]:
        return lambda leg: replace(cost_of(leg), weights=one.cost.weights, checkpoint=one.cost.checkpoint)

    by_size = sorted(probed, key=lambda one: one.cost.weights + one.cost.checkpoint)
    least, most = (simulate(search, slots, all_like(one)).most_bytes for one in (by_size[0], by_size[-1]))
    return Plan(search, slots, simulate(search, slots, cost_of), probed, least, most)


def in_short(search: Search, run: Simulated) -> str:
    """Return trials and epochs in one sentence."""
    many = "more than " if run.epochs >= MOST_EPOCHS else ""
    reached = [f"{count} reach epoch {level}" for level, count in run.reached.items()][1:]
    rungs = ""
    if reached and search.scheduler.kind != "none":
        listed = f"{', '.join(reached[:-1])} and {reached[-1]}" if len(reached) > 1 else reached[0]
        rungs = f", of which {listed}"
    return f"Plan: {many}{run.trials} trials{rungs}; {many}{run.epochs} epochs."


def before_the_run(search: Search) -> list[str]:
    """Return what `run` says before it starts: the plan in short, without a probe, and what the settings rule out.

    There is no plan of a search that only its hours bound, nor of one so large that its simulation would take long.
    """
    trials, epochs = search.most_trials, search.budget.epochs
    lines = [f"Note: {fault}." for fault in settings_at_fault(search)]
    if (trials is not None and trials <= MOST_TOLD_TRIALS) or (epochs is not None and epochs <= MOST_TOLD_EPOCHS):
        lines.insert(0, in_short(search, simulate(search, slots_here(search.resources))))
    return lines


def slots_here(resources: Resources) -> int:
    """Return how many slots this machine holds, by its CPUs and GPUs."""
    cards = torch.cuda.device_count()
    gpus = (1.0 if cards else 0.0) if resources.gpus == "auto" else resources.gpus
    places = int((os.cpu_count() or 1) / resources.cpus + 1e-6)
    if gpus:
        places = min(places, int(cards / gpus + 1e-6))
    slots = places // resources.workers
    return max(1, slots if resources.slots == "auto" else min(slots, resources.slots))


def check(plan: Plan, free: int, where: Path) -> None:
    """Raise UserError that lists what cannot work, with advice. ``free`` bytes are free in ``where``."""
    faults = [*settings_at_fault(plan.search), *_disk_faults(plan, free, where), *_hours_faults(plan)]
    if faults:
        raise UserError("This search cannot work as it is meant to:\n" + "\n".join(f"  {fault}" for fault in faults))


def settings_at_fault(search: Search) -> list[str]:
    """Return what the settings alone rule out: rungs that no trial reaches, and too few trials or epochs."""
    faults, budget, scheduler = [], search.budget, search.scheduler
    top, eta = search.rungs[-1], scheduler.eta
    if budget.epochs is not None and budget.epochs < top and scheduler.kind != "none":
        faults.append(
            f"budget.epochs {budget.epochs} is below scheduler.max_epochs {top}: no trial is trained to the end; raise it, or lower max_epochs"
        )
    most = search.most_trials
    if scheduler.kind == "promotion" and most is not None:
        left = most
        for below, level in zip(search.rungs, search.rungs[1:], strict=False):
            left //= eta
            if left == 0:
                needed = eta ** (search.rungs.index(level))
                faults.append(
                    f"the rung at epoch {level} is reached by no promotion: one of {eta} goes on at each rung, and {most} trials are too few; "
                    f"give budget.trials {needed} or more, or scheduler.max_epochs {below}"
                )
                break
    return faults


def _disk_faults(plan: Plan, free: int, where: Path) -> list[str]:
    faults, keep = [], plan.search.keep
    if plan.most_bytes > free:
        faults.append(
            f"{where} has {free / GB:.1f} GB free, and the search may need {plan.most_bytes / GB:.1f} GB; free some, choose another --out, or "
            f"set keep to a number of GB"
        )
    largest = max(one.cost.checkpoint + 2 * one.cost.weights for one in plan.probed)
    least = (plan.slots + max(plan.search.final.members, plan.search.final.max_members)) * largest
    if not isinstance(keep, str) and keep * GB < least:
        faults.append(
            f"keep {keep:g} GB is below {least / GB:.2f} GB, which the trials in training and the members need; raise it"
        )
    return faults


def _hours_faults(plan: Plan) -> list[str]:
    hours, top = plan.search.budget.hours, plan.search.rungs[-1]
    if hours is None:
        return []
    fastest = min(one.cost.epoch for one in plan.probed) * top / 3600
    if fastest > hours:
        return [
            f"budget.hours {hours:g} is less than the {fastest:.1f} h of one trial of {top} epochs; raise it, or lower scheduler.max_epochs"
        ]
    return []


def free_bytes(out: Path) -> int:
    """Return the bytes that are free where ``out`` is or will be."""
    return shutil.disk_usage(next(one for one in (out, *out.absolute().parents) if one.is_dir())).free


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
