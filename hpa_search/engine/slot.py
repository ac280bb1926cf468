"""Slots: long-lived Ray Train runs of the driver. Their workers start once and train leg after leg."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig

from hpa_search.engine.entry import enter
from hpa_search.engine.ray_private import WorkerGroupStartupTimeoutError
from hpa_search.engine.train_run import SlotTrainer
from hpa_search.space.settings import Resources

logger = logging.getLogger(__name__)

MOST_ENDS = 3
SLOT_THREAD = "slot-"


class SlotOwner(Protocol):
    """Keeps slots."""

    def give_up(self, index: int, why: str) -> None:
        """Drop a slot whose run cannot be kept going; the slot's own thread calls this."""


class Slot:
    """One slot: a thread that keeps its Train run going until the mailbox is closed.

    A run ends before that when its controller is killed, and is started again. After ``MOST_ENDS`` runs in a row that bring
    no worker group up, the slot is given up. ``work`` is what its workers do, from `entry.packed`.
    """

    def __init__(
        self, index: int, owner: SlotOwner, *, mailbox: ActorHandle, scaling: ScalingConfig, scratch: Path, work: bytes
    ) -> None:
        self.index, self._owner, self._mailbox, self._scaling, self._scratch = index, owner, mailbox, scaling, scratch
        self._arguments = {"mailbox": mailbox, "slot": index, "work": work}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name=f"{SLOT_THREAD}{index}", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether its thread has not ended yet."""
        return self._thread.is_alive()

    def retire(self) -> None:
        """Do not start the run again."""
        self._closing.set()

    def join(self, timeout: float) -> None:
        """Wait for the run's end, at most ``timeout`` seconds."""
        self._thread.join(timeout)

    def _keep_running(self) -> None:
        """Run until the mailbox is closed. Report any earlier end to the owner."""
        try:
            why = self._until_given_up()
        except RayError as error:
            why = f"the mailbox between slots and trials is gone ({_last_line(error)})"
        except Exception as error:
            logger.exception("slot %s failed", self.index)
            why = f"{type(error).__name__}: {_last_line(error)}"
        if why and not self._closing.is_set():
            logger.warning("slot %s: %s", self.index, why)
            self._owner.give_up(self.index, why)

    def _until_given_up(self) -> str:
        """Keep the run going. Return why it cannot be kept, or an empty text when the mailbox is closed."""
        ends, run = 0, 0
        while not self._closing.is_set():
            if ray.get(self._mailbox.is_closed.remote()):
                return ""
            before = self._groups()
            ray.get(self._mailbox.run_begins.remote(self.index))
            why = self._fit(run)
            why = ray.get(self._mailbox.why_not_begun.remote(self.index)) or why
            # Another search may have the resources now, and free them later: such an end does not count.
            waits = WorkerGroupStartupTimeoutError.__name__ in why or "timed out" in why
            ends, run = ends + 1 if self._groups() == before and not waits else 0, run + 1
            if ends >= MOST_ENDS:
                return why.strip().splitlines()[-1]  # of a traceback, the error
        return ""

    def _groups(self) -> int:
        return 0 if self._closing.is_set() else ray.get(self._mailbox.groups_started.remote(self.index))

    def _fit(self, run: int) -> str:
        """Run until the run ends; return why it did."""
        # Ray replaces a dead worker for ever, because the mailbox counts deaths. A group that never comes up ends the run.
        failures = FailureConfig(max_failures=-1, controller_failure_limit=MOST_ENDS)
        trainer = SlotTrainer(
            enter,
            # A single worker talks to no other, and needs no NCCL.
            torch_config=TorchConfig(backend="gloo" if self._scaling.num_workers == 1 else None),
            train_loop_config=self._arguments,
            scaling_config=self._scaling,
            run_config=RunConfig(name=f"slot-{self.index}-{run}", storage_path=str(self._scratch), failure_config=failures),
        )
        try:
            trainer.fit()
        except Exception as error:  # whatever ended the run, the slot's answer is the same
            return f"{type(error).__name__}: {error}"
        return "its run ended"


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def scaling(resources: Resources, gpus: float) -> ScalingConfig:
    """Return the resources of one slot, with ``gpus`` for each of its workers."""
    per_worker = {"CPU": resources.cpus, **({"GPU": gpus} if gpus else {})}
    return ScalingConfig(num_workers=resources.workers, use_gpu=gpus > 0, resources_per_worker=per_worker)


def gpus_per_worker(resources: Resources, *, needed: bool = False) -> float:
    """Return the GPUs of each worker of a slot. `auto` is one GPU if the cluster has any now, or if GPUs are ``needed``."""
    if resources.gpus != "auto":
        return resources.gpus
    return float(needed or ray.cluster_resources().get("GPU", 0) > 0)


def in_words(resources: Resources, gpus: float) -> str:
    """Describe the resources of a slot for people."""
    has = f"{resources.cpus:g} CPU(s) and {gpus:g} GPU(s)"
    return f"each {has}" if resources.workers == 1 else f"each of {resources.workers} workers with {has}"


def count_slots(resources: Resources, gpus: float) -> int:
    """Return how many slots the cluster's nodes hold now, at most the number in the settings.

    The workers of a slot may be on several nodes.
    """
    slots = sum(_places(node["Resources"], resources.cpus, gpus) for node in ray.nodes() if node["Alive"]) // resources.workers
    return slots if resources.slots == "auto" else min(slots, resources.slots)


def _places(has: Mapping[str, float], cpus: float, gpus: float) -> int:
    """Return how many workers a node with the resources ``has`` holds."""
    by_gpu = int(has.get("GPU", 0) / gpus + 1e-6) if gpus else 10**9
    return min(by_gpu, int(has.get("CPU", 0) / cpus + 1e-6))
