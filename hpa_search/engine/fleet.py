"""The slots of a driver: as many as the cluster's nodes hold, now and as nodes come and go."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from hpa_search.engine.ray_logs import RayLogs
from hpa_search.engine.slot import Slot
from hpa_search.errors import UserError

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
TELL_SECONDS = 600.0
"""How often it is said that nodes are waited for."""
CLOSING_SECONDS = 40.0
"""How long slots may take to end; one whose workers are just being replaced needs the longest."""
HURRIED_SECONDS = 2.0
"""The same where the driver was told to end now: it has eight seconds for all that it does then."""
SLOW_SECONDS = 180.0
"""How long a slot's workers may take to come up before that is said."""
SICK_SECONDS = 60.0
"""How long they may take where workers have left an error of Python's: they end while they import."""


class Fleet:
    """Keeps one slot for each of the ``places`` that the cluster's nodes offer, while it is entered.

    A slot whose node is gone hands its leg back, to be taken up where its last checkpoint is. One that could not be kept
    running is done without until the cluster has other nodes. Where no node could hold a slot, one is waited for.

    ``make(index, on_given_up)`` starts a slot; ``on_change`` hears how many there are, ``on_look`` every few seconds whether
    the workers of any are up, ``on_trouble`` why none can be kept; ``is_hurried`` says whether the end is to come at once,
    and ``logs`` have the last lines of what does not come up.
    """

    def __init__(
        self,
        exchange: ActorHandle,
        *,
        places: Callable[[], int],
        make: Callable[[int, Callable[[int, str], None]], Slot],
        on_change: Callable[[int], None],
        on_look: Callable[[bool], None],
        on_trouble: Callable[[str], None],
        is_hurried: Callable[[], bool],
        logs: RayLogs,
        say: Callable[[str], None],
    ) -> None:
        self._exchange, self._places, self._make, self._logs = exchange, places, make, logs
        self._on_change, self._on_look, self._on_trouble, self._say = on_change, on_look, on_trouble, say
        self._is_hurried = is_hurried
        self._slots: dict[int, Slot] = {}
        self._retired: dict[int, Slot] = {}
        self._nodes, self._given_up, self._told = set[str](), 0, -TELL_SECONDS
        self._down_since: dict[int, float] = {}
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._follow, name="fleet", daemon=True)

    def __enter__(self) -> "Fleet":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Wait for the slots' ends, after the exchange was closed."""
        self._over.set()
        self._thread.join()
        hurried = self._is_hurried()
        deadline = time.monotonic() + (HURRIED_SECONDS if hurried else CLOSING_SECONDS)
        for slot in self._slots.values():
            slot.retire()
        for index, slot in self._slots.items():
            if not (hurried and index in self._down_since):  # one whose workers are not up has nothing to bring to an end
                slot.join(max(deadline - time.monotonic(), 0))
        slots = {**self._slots, **self._retired}
        busy = [index for index, slot in slots.items() if slot.is_running]
        for index in busy:
            self._cut_short(index)
        deadline = time.monotonic() + (1.0 if hurried else CLOSING_SECONDS)
        for index in busy:
            slots[index].join(max(deadline - time.monotonic(), 0))

    def _cut_short(self, index: int) -> None:
        """Kill a slot's run: it may be in the middle of an epoch that nobody waits for, or wait for a host that never comes."""
        with suppress(RayError, TimeoutError):
            for actor in ray.get(self._exchange.actors.remote(index), timeout=HURRIED_SECONDS):
                ray.kill(actor)

    def _follow(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._look()
            except (RayError, ConnectionError, TimeoutError) as error:  # of the exchange's end the driver hears elsewhere
                logger.warning("the cluster cannot be looked at: %s", error)
            except Exception as error:
                logger.exception("this was not foreseen")
                self._on_trouble(f"the slots cannot be looked after any more: {type(error).__name__}: {error}")
                return

    def _look(self) -> None:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        hosts = ray.get(self._exchange.hosts.remote())
        with self._lock:
            before = len(self._slots)
            if alive != self._nodes:
                self._nodes, self._given_up = alive, 0
            for index in [i for i in self._slots if not alive.issuperset(hosts.get(i, ()))]:
                self._retire(index, "a host of its workers is gone")
            wanted = max(self._places() - self._given_up, 0)
            for index in [i for i in self._slots if not hosts.get(i)][: max(len(self._slots) - wanted, 0)]:
                self._retire(index, "its host was gone before it came up")
            while len(self._slots) < wanted:
                index = ray.get(self._exchange.open_slot.remote())
                self._slots[index] = self._make(index, self._give_up)
            if len(self._slots) != before and self._thread.is_alive():  # how many there are at first, the driver says
                self._say(f"{len(self._slots)} slot(s) now.")
            self._on_change(len(self._slots))
            self._tell_of_emptiness()
            self._tell_of_slowness([index for index in self._slots if not hosts.get(index)])
        self._on_look(any(hosts.get(index) for index in self._slots))

    def _tell_of_emptiness(self) -> None:
        if not self._slots and time.monotonic() - self._told > TELL_SECONDS:
            self._say("No node that could hold a slot is left; waiting for one.")
            self._told = time.monotonic()

    def _tell_of_slowness(self, down: list[int]) -> None:
        """Say once in a while which slots have no workers yet, and the last lines of the log."""
        now = time.monotonic()
        self._down_since = {index: self._down_since.get(index, now) for index in down}
        sick = [index for index, since in self._down_since.items() if now - since > SICK_SECONDS]
        if sick and len(sick) == len(self._slots) and self._logs.faults():
            self._on_trouble(f"the workers of no slot come up. The last that they wrote:{self._logs.last_words()}\n")
        slow = [index for index, since in self._down_since.items() if now - since > SLOW_SECONDS]
        if slow:
            waited = f"have not come up for {SLOW_SECONDS / 60:.0f} minutes"
            self._say(f"The workers of slot {', '.join(map(str, slow))} {waited}; waiting. Ray's log:{self._logs.last_words()}")
            self._down_since.update(dict.fromkeys(slow, now + TELL_SECONDS - SLOW_SECONDS))

    def _retire(self, index: int, why: str) -> None:
        """Do without a slot, whose run would wait for another place."""
        self._say(f"Slot {index} is gone: {why}; its trial goes on elsewhere.")
        ray.get(self._exchange.lose_slot.remote(index))
        self._retired[index] = slot = self._slots.pop(index)
        slot.retire()
        self._cut_short(index)

    def _give_up(self, index: int, why: str) -> None:
        """A slot's thread says that its run cannot be kept going."""
        with self._lock:
            if self._slots.pop(index, None) is None:
                return
            self._say(f"Slot {index} is given up: {why}")
            self._given_up += 1
            self._on_change(len(self._slots))
            if not self._slots:
                self._on_trouble(f"no slot could be kept running, the last one because: {why}")
        with suppress(RayError):  # where the exchange is gone, there is nothing to take the slot from
            ray.get(self._exchange.lose_slot.remote(index))


def first_places(
    places: Callable[[], int], slot: Callable[[], str], *, may_come: bool, say: Callable[[str], None], over: Callable[[], bool]
) -> bool:
    """Wait for nodes that can hold a ``slot``, in words; return whether there are some.

    There are none where the driver is to end, which ``over`` tells. Raises UserError where no more nodes ``may_come``.
    """
    told = -TELL_SECONDS
    while not places():
        if over():
            return False
        if not may_come:
            raise UserError(f"the nodes of the Ray cluster hold no slot ({slot()}); lower resources in the search file")
        if time.monotonic() - told >= TELL_SECONDS:
            say(
                f"No node of the cluster can hold a slot yet ({slot()}); waiting for one. If none is to come, stop the search and "
                "lower resources in its file."
            )
            told = time.monotonic()
        time.sleep(LOOK_SECONDS)
    return True
