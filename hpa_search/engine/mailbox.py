"""Where proxies hand legs to slots and slots hand epochs back: one small actor, owned by the driver.

A slot's worker may die and be replaced, and so may a proxy, without a trial or an epoch being lost: a leg stays
with its slot until it is over, and its rows stay here until the next leg of the trial.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.actor import ActorHandle

MOST_DEATHS = 2
PATIENCE = 20.0
"""Seconds that the first legs wait for one more proxy to be up; there may be fewer legs than slots."""
Row = dict[str, Any]


@dataclass
class _Slot:
    """One slot: the leg it trains, the incarnations of its workers that took it and that wait for one, and where they are."""

    leg: Row | None = None
    taken_by: str | None = None
    waiting: str | None = None
    last_number: int | None = None
    up: str | None = None
    hosts: tuple[str, ...] = ()
    workers: tuple[ActorHandle | None, ...] = ()
    controller: ActorHandle | None = None
    lost: bool = False


@dataclass
class _Mail:
    """What came back for the current leg of one trial."""

    rows: list[Row] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last_epoch(self) -> int:
        """The last epoch that came back."""
        return next((row["epoch"] for row in reversed(self.rows) if "epoch" in row), 0)

    def post(self, row: Row) -> None:
        self.rows.append(row)
        self.news.set()


class Exchange:
    """The actor's class; its methods are awaited by proxies (start, next) and by workers (take, report, fail)."""

    def __init__(self, slots: int, proxies_awaited: int) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._mail: dict[int, _Mail] = {}
        self._deaths = Counter[int]()
        self._groups = Counter[int]()
        self._over: dict[int, float] = {}
        self._closed = self._pausing = False
        self._changed = asyncio.Condition()
        self._proxies, self._awaited = 0, proxies_awaited

    async def hello(self) -> None:
        """A proxy is up. Legs start when all first proxies are.

        Tune drops a proxy that is still starting as soon as another is free, and would start one again for each of the
        first trials, if those are short.
        """
        self._proxies += 1
        await self._tell()

    async def start(self, leg: Row) -> None:
        """Hand a leg to a slot whose worker waits for one; a leg that a slot is training already goes on there."""
        await self._proxies_up()
        number = leg["number"]
        async with self._changed:
            # One that is being ended is waited for: its trial may be wanted for longer now.
            await self._changed.wait_for(lambda: self._closed or not self._is_ending(number))
            # A proxy that was killed while it waited here may still have a call: its successor's leg may be in training by that,
            # or the trial may have ended since.
            await self._changed.wait_for(
                lambda: self._closed or self._pausing or self._is_over(leg) or self._in_training(number) or self._free(number)
            )
            if self._closed or self._in_training(number):
                return
            if self._pausing or self._is_over(leg):
                self._mail.setdefault(number, _Mail()).post({"stopped": True})
                return
            slot = self._free(number)
            assert slot is not None
            slot.leg, slot.taken_by, slot.last_number = leg, None, number
            self._mail[number] = _Mail()
            self._changed.notify_all()

    async def next(self, number: int, after: int) -> list[Row]:
        """Return the trial's rows beyond epoch ``after``, one at least; one that ends its leg is `failed` or `stopped`."""
        while not self._closed:
            mail = self._mail.setdefault(number, _Mail())
            if rows := [row for row in mail.rows if "epoch" not in row or row["epoch"] > after]:
                return rows
            mail.news.clear()
            await mail.news.wait()
        return [{"stopped": True}]

    async def take(self, index: int, incarnation: str) -> Row | None:
        """Return the leg that a slot's worker is to train, waiting for one; None when the search is over.

        A leg is handed out again when the worker that took it died; a trial that kills twice without an epoch done
        between is failed.
        """
        slot = self._slots[index]
        async with self._changed:
            if slot.leg and slot.leg["target"] == 0:  # it was ended, and whoever trained it is gone
                self._clear(slot)
            if slot.leg and slot.taken_by not in (None, incarnation):
                self._count_death(slot)
            slot.waiting = incarnation
            self._changed.notify_all()
            # A worker that was killed while it waited may still have a call here: its successor's counts.
            await self._changed.wait_for(lambda: self._closed or slot.lost or slot.leg is not None or slot.waiting != incarnation)
            if self._closed or slot.lost or slot.waiting != incarnation:
                return None
            slot.waiting, slot.taken_by = None, incarnation
            return slot.leg

    async def report(self, index: int, incarnation: str, rows: Sequence[Row]) -> bool:
        """Take the rows of epochs, in order; return whether the worker is to train on."""
        slot = self._slots[index]
        if self._closed or slot.taken_by != incarnation or slot.leg is None:
            return False
        mail = self._mail[slot.leg["number"]]
        for row in rows:
            # What a checkpoint held is reported again by the successor of a worker that died, and is no progress.
            if row["epoch"] > mail.last_epoch:
                self._deaths[slot.leg["number"]] = 0
                mail.post(row)
        if rows[-1]["epoch"] < slot.leg["target"] and not self._pausing:
            return True
        await self._end_leg(slot)
        return False

    async def fail(self, index: int, incarnation: str, why: str, details: str) -> None:
        """The trial has failed; ``details`` is the traceback."""
        slot = self._slots[index]
        if slot.taken_by == incarnation and slot.leg is not None:
            self._mail[slot.leg["number"]].post({"failed": why, "details": details})
            await self._end_leg(slot)

    async def pause(self) -> None:
        """Let every leg end with its running epoch, and start no other."""
        self._pausing = True
        await self._tell()

    async def cancel(self, number: int, epoch: float = math.inf) -> None:
        """End a trial's leg at its next epoch, and begin none, if it begins before ``epoch``: one that begins there is another."""
        self._over[number] = max(epoch, self._over.get(number, 0))
        for slot in self._slots:
            if slot.leg and slot.leg["number"] == number and self._is_over(slot.leg):
                slot.leg = {**slot.leg, "target": 0}
        await self._tell()

    async def give_back(self, index: int, incarnation: str) -> None:
        """The leg is not over, and not this worker's any more."""
        slot = self._slots[index]
        if slot.taken_by == incarnation and slot.leg is not None:
            self._mail[slot.leg["number"]].post({"stopped": True})
            await self._end_leg(slot)

    async def begin_again(self, index: int, incarnation: str, micro_batch: int) -> None:
        """One of a slot's workers has memory for ``micro_batch`` images at a time only: their successors take the leg with that."""
        slot = self._slots[index]
        if slot.taken_by == incarnation and slot.leg is not None:
            # No death of the trial's; but nothing would end what begins again with as many.
            if micro_batch >= slot.leg.get("micro_batch", math.inf):
                raise ValueError(f"{micro_batch} images at a time are no fewer than before")
            slot.leg, slot.taken_by = {**slot.leg, "micro_batch": micro_batch}, None

    async def halt(self, index: int, incarnation: str, why: str) -> None:
        """The leg cannot go on for a reason that is not the trial's, such as a full disk, and that other trials will meet too."""
        slot = self._slots[index]
        if slot.taken_by == incarnation and slot.leg is not None:
            self._mail[slot.leg["number"]].post({"halted": why})
            await self._end_leg(slot)

    async def group_started(self, index: int, incarnation: str, host: str, worker: ActorHandle | None = None) -> None:
        """A ``worker`` of a slot's group is up, on the node ``host``; the group's ``incarnation`` is new with its first one."""
        slot = self._slots[index]
        if slot.up != incarnation:
            self._groups[index] += 1
            slot.up, slot.hosts, slot.workers = incarnation, (), ()
        slot.hosts, slot.workers = (*slot.hosts, host), (*slot.workers, worker)

    async def run_begins(self, index: int) -> None:
        """A slot's run begins: what its last one consisted of is gone."""
        slot = self._slots[index]
        slot.up, slot.hosts, slot.workers, slot.controller = None, (), (), None

    async def controller_started(self, index: int, controller: ActorHandle) -> None:
        """The ``controller`` of a slot's run is up."""
        self._slots[index].controller = controller

    async def actors(self, index: int) -> list[ActorHandle]:
        """Return what a slot's run consists of, as it came up last: its controller, and its workers."""
        slot = self._slots[index]
        return [actor for actor in (slot.controller, *slot.workers) if actor is not None]

    async def hosts(self) -> dict[int, tuple[str, ...]]:
        """Return on which nodes the workers of each slot are; none for a slot that has not come up yet, or is lost."""
        return {index: slot.hosts for index, slot in enumerate(self._slots) if not slot.lost}

    async def open_slot(self) -> int:
        """Make room for one slot more; return its index."""
        self._slots.append(_Slot())
        return len(self._slots) - 1

    async def groups_started(self, index: int | None = None) -> int:
        """Return how many worker groups have been started in one slot, or in all."""
        return self._groups.total() if index is None else self._groups[index]

    async def lose_slot(self, index: int) -> int:
        """A slot is given up for good: its leg goes back. Return how many slots are left."""
        slot = self._slots[index]
        slot.lost = True
        if slot.leg is not None:
            self._mail[slot.leg["number"]].post({"stopped": True})
            slot.leg = None
        await self._tell()
        return sum(not other.lost for other in self._slots)

    async def is_closed(self) -> bool:
        """Return whether everything is to end."""
        return self._closed

    async def close(self) -> None:
        """End everything: workers go home, proxies return."""
        self._closed = True
        for mail in self._mail.values():
            mail.news.set()
        await self._tell()

    async def _proxies_up(self) -> None:
        async with self._changed:
            while not self._closed and self._proxies < self._awaited:
                try:
                    await asyncio.wait_for(self._one_more_proxy(self._proxies), PATIENCE)
                except TimeoutError:
                    self._awaited = 0

    async def _one_more_proxy(self, there: int) -> None:
        await self._changed.wait_for(lambda: self._closed or self._proxies > there)

    def _in_training(self, number: int) -> bool:
        return any(slot.leg and slot.leg["number"] == number for slot in self._slots)

    def _is_over(self, leg: Row) -> bool:
        return bool(leg["reported"] < self._over.get(leg["number"], 0))

    def _is_ending(self, number: int) -> bool:
        return any(slot.leg and slot.leg["number"] == number and slot.leg["target"] == 0 for slot in self._slots)

    def _free(self, number: int) -> _Slot | None:
        free = [slot for slot in self._slots if slot.leg is None and slot.waiting and not slot.lost]
        return min(free, key=lambda slot: slot.last_number != number, default=None)

    def _count_death(self, slot: _Slot) -> None:
        assert slot.leg is not None
        number = slot.leg["number"]
        self._deaths[number] += 1
        if self._deaths[number] >= MOST_DEATHS:
            why = f"its worker died {MOST_DEATHS} times without an epoch done between (killed, or out of the host's memory)"
            self._mail[number].post({"failed": why, "details": why})
            slot.leg = None
            self._changed.notify_all()

    async def _end_leg(self, slot: _Slot) -> None:
        self._clear(slot)
        await self._tell()

    def _clear(self, slot: _Slot) -> None:
        assert slot.leg is not None
        if slot.leg["target"] == 0:  # who began it is gone, but its trial's next leg may have joined it before it was ended
            self._mail[slot.leg["number"]].post({"stopped": True})
        slot.leg = None

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
