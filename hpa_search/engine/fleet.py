"""The fleet: as many slots as the cluster's nodes hold, now and as nodes come and go."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from hpa_search.engine.ray_logs import RayLogs
from hpa_search.engine.slot import Slot, SlotOwner
from hpa_search.errors import UserError
from hpa_search.search.life import Life

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
REMIND_SECONDS = 600.0
"""How often the fleet says that it waits for nodes."""
CLOSING_SECONDS = 40.0
"""How long slots may take to end; a slot whose workers are just being replaced takes longest."""
HURRIED_SECONDS = 2.0
"""The same where the driver ends now: it has eight seconds in all."""
SLOW_SECONDS = 180.0
"""How long a slot's workers may take to come up before the fleet says so."""
SICK_SECONDS = 60.0
"""How long they may take where workers have left a Python error in the log: they die while they import."""


class FleetOwner(Protocol):
    """The driver's stay on one Ray, as its fleet sees it. The fleet's thread calls these methods."""

    def places(self) -> int:
        """Return how many slots the cluster's nodes hold now."""

    def make_slot(self, index: int, owner: SlotOwner) -> Slot:
        """Start a slot."""

    def slots_changed(self, count: int) -> None:
        """The fleet has ``count`` slots now."""

    def looked(self, *, is_up: bool) -> None:
        """The fleet has polled the cluster, every few seconds. ``is_up`` says whether any slot has workers."""


class Fleet:
    """Keeps one slot for each place that the cluster's nodes offer, while it is entered.

    A slot whose node is gone hands its leg back, and the trial resumes at its last checkpoint. A failing slot is dropped until
    the set of nodes changes. Where no node can hold a slot, the fleet waits for a node.
    """

    def __init__(self, mailbox: ActorHandle, owner: FleetOwner, *, life: Life, logs: RayLogs, say: Callable[[str], None]) -> None:
        self._mailbox, self._owner, self._life, self._logs, self._say = mailbox, owner, life, logs, say
        self._slots: dict[int, Slot] = {}
        self._retired: dict[int, Slot] = {}
        self._nodes, self._given_up, self._reminded = set[str](), 0, -REMIND_SECONDS
        self._down_since: dict[int, float] = {}
        # The fleet's thread, and those of slots that give up, change the slots.
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._follow, name="fleet", daemon=True)

    def __enter__(self) -> "Fleet":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Wait for the slots' ends. The mailbox is closed before."""
        self._over.set()
        self._thread.join()
        hurried = self._life.is_ending
        deadline = time.monotonic() + (HURRIED_SECONDS if hurried else CLOSING_SECONDS)
        for slot in self._slots.values():
            slot.retire()
        for index, slot in self._slots.items():
            if not (hurried and index in self._down_since):  # a slot without workers has nothing to bring to an end
                slot.join(max(deadline - time.monotonic(), 0))
        slots = {**self._slots, **self._retired}
        busy = [index for index, slot in slots.items() if slot.is_running]
        for index in busy:
            self._cut_short(index)
        deadline = time.monotonic() + (1.0 if hurried else CLOSING_SECONDS)
        for index in busy:
            slots[index].join(max(deadline - time.monotonic(), 0))

    def give_up(self, index: int, why: str) -> None:
        """Drop a slot whose run cannot be kept going."""
        with self._lock:
            if self._slots.pop(index, None) is None:
                return
            self._say(f"Slot {index} is given up: {why}")
            self._given_up += 1
            self._owner.slots_changed(len(self._slots))
            if not self._slots:
                self._life.break_off(f"no slot could be kept running, the last one because: {why}")
        with suppress(RayError):  # without the mailbox there is nothing to take the slot from
            ray.get(self._mailbox.lose_slot.remote(index))

    def _cut_short(self, index: int) -> None:
        """Kill a slot's run. Nobody waits for its epoch, and its host may never come."""
        with suppress(RayError, TimeoutError):
            for actor in ray.get(self._mailbox.actors.remote(index), timeout=HURRIED_SECONDS):
                ray.kill(actor)

    def _follow(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._look()
            except (RayError, ConnectionError, TimeoutError) as error:  # the Tune adapter finds out if the mailbox is gone
                logger.warning("the cluster cannot be polled: %s", error)
            except Exception as error:
                logger.exception("the fleet failed")
                self._life.break_off(f"the slots cannot be managed any more: {type(error).__name__}: {error}")
                return

    def _look(self) -> None:
        """Drop slots whose nodes are gone, and start one for each free place."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        hosts = ray.get(self._mailbox.hosts.remote())
        with self._lock:
            before = len(self._slots)
            if alive != self._nodes:
                self._nodes, self._given_up = alive, 0
            for index in [i for i in self._slots if not alive.issuperset(hosts.get(i, ()))]:
                self._retire(index, "a host of its workers is gone")
            wanted = max(self._owner.places() - self._given_up, 0)
            for index in [i for i in self._slots if not hosts.get(i)][: max(len(self._slots) - wanted, 0)]:
                self._retire(index, "its host was gone before it came up")
            while len(self._slots) < wanted:
                index = ray.get(self._mailbox.open_slot.remote())
                self._slots[index] = self._owner.make_slot(index, self)
            if len(self._slots) != before and self._thread.is_alive():  # the driver has said how many there are at first
                self._say(f"{len(self._slots)} slot(s) now.")
            self._owner.slots_changed(len(self._slots))
            self._report_emptiness()
            self._report_slowness([index for index in self._slots if not hosts.get(index)])
        self._owner.looked(is_up=any(hosts.get(index) for index in self._slots))

    def _report_emptiness(self) -> None:
        if not self._slots and time.monotonic() - self._reminded > REMIND_SECONDS:
            self._say("No node that could hold a slot is left; waiting for one.")
            self._reminded = time.monotonic()

    def _report_slowness(self, down: list[int]) -> None:
        """Say from time to time which slots have no workers yet. Break off if the workers cannot come up."""
        now = time.monotonic()
        self._down_since = {index: self._down_since.get(index, now) for index in down}
        sick = [index for index, since in self._down_since.items() if now - since > SICK_SECONDS]
        if sick and len(sick) == len(self._slots) and self._logs.faults():
            self._life.break_off(f"the workers of no slot come up. The end of their log:{self._logs.last_words()}\n")
        slow = [index for index, since in self._down_since.items() if now - since > SLOW_SECONDS]
        if slow:
            waited = f"have not come up for {SLOW_SECONDS / 60:.0f} minutes"
            self._say(f"The workers of slot {', '.join(map(str, slow))} {waited}; waiting. Ray's log:{self._logs.last_words()}")
            self._down_since.update(dict.fromkeys(slow, now + REMIND_SECONDS - SLOW_SECONDS))

    def _retire(self, index: int, why: str) -> None:
        """Drop a slot: its run would wait for another place."""
        self._say(f"Slot {index} is gone: {why}; its trial resumes elsewhere.")
        ray.get(self._mailbox.lose_slot.remote(index))
        self._retired[index] = slot = self._slots.pop(index)
        slot.retire()
        self._cut_short(index)


def wait_for_places(
    places: Callable[[], int], slot: Callable[[], str], *, may_come: bool, life: Life, say: Callable[[str], None]
) -> bool:
    """Wait for nodes that can hold a slot; return False if the driver is to end first.

    ``slot`` describes a slot in words. Raises UserError if no node can hold a slot and no more nodes ``may_come``.
    """
    reminded = -REMIND_SECONDS
    while not places():
        if life.is_ending or life.is_draining:
            return False
        if not may_come:
            raise UserError(f"the nodes of the Ray cluster hold no slot ({slot()}); lower resources in the search file")
        if time.monotonic() - reminded >= REMIND_SECONDS:
            say(
                f"No node of the cluster can hold a slot yet ({slot()}); waiting for one. If none is to come, stop the search "
                "and lower resources in its file."
            )
            reminded = time.monotonic()
        time.sleep(LOOK_SECONDS)
    return True
