"""The mailbox: the actor through which proxies hand legs to slots, and slots hand epochs back.

The driver owns this small actor. Workers and proxies may die and be replaced without losing a trial or an epoch. A leg stays
with its slot until its end. Its events stay here until the next leg of the trial.

    proxy    hello, start(leg), next(leg, after) -> events
    worker   group_started, take -> leg, report(epochs) -> whether to train on, end(how), begin_again
    driver   drain, close, cancel(leg), open_slot, lose_slot, hosts, actors

A leg in a slot is OFFERED until a worker takes it, then TAKEN. It is ENDING from its cancellation by the agenda to the next
report of its worker.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from ray.actor import ActorHandle

from hpa_search.search.leg import EpochReport, Failed, Leg, LegEnd, LegEvent, Released

MOST_DEATHS = 2
PROXY_SECONDS = 20.0
"""How long the first legs wait for one more proxy to be up; there may be fewer legs than slots."""


class Phase(Enum):
    """The driver's state as the mailbox sees it, see `search.life`. The driver advances it, and it never goes back."""

    OPEN = "legs begin"
    DRAINING = "legs end with their running epoch, and none begins"
    CLOSED = "workers and proxies return"


class Stage(Enum):
    """How far a slot has come with its leg."""

    OFFERED = "no worker has the leg"
    TAKEN = "a worker trains it"
    ENDING = "it ends with its worker's next report"


@dataclass
class _Slot:
    """One slot: the leg that it trains, the incarnation of its workers, and where they are."""

    leg: Leg | None = None
    stage: Stage = Stage.OFFERED
    taken_by: str | None = None
    waiting: str | None = None
    last_number: int | None = None
    up: str | None = None
    hosts: tuple[str, ...] = ()
    workers: tuple[ActorHandle | None, ...] = ()
    controller: ActorHandle | None = None
    why_not_begun: str = ""
    is_lost: bool = False

    def offer(self, leg: Leg) -> None:
        self.leg, self.stage, self.taken_by, self.last_number = leg, Stage.OFFERED, None, leg.number

    def is_training(self, number: int) -> bool:
        return self.leg is not None and self.leg.number == number

    def is_of(self, incarnation: str) -> bool:
        """Return whether ``incarnation`` has taken the leg: what others say of it does not count."""
        return self.leg is not None and self.taken_by == incarnation


@dataclass
class _Mail:
    """What came back of a trial's newest leg."""

    leg: Leg
    events: list[LegEvent] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last_epoch(self) -> int:
        return next((event.epoch for event in reversed(self.events) if isinstance(event, EpochReport)), 0)

    def after(self, epoch: int) -> list[LegEvent]:
        """Return the reports beyond ``epoch``, and the end if the leg has ended."""
        return [event for event in self.events if not isinstance(event, EpochReport) or event.epoch > epoch]

    def post(self, event: LegEvent) -> None:
        self.events.append(event)
        self.news.set()


class Mailbox:
    """The actor's class; proxies and workers await its methods."""

    def __init__(self, slots: int, proxies_awaited: int) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._mail: dict[int, _Mail] = {}
        self._deaths = Counter[int]()
        self._groups = Counter[int]()
        self._cancelled: dict[int, int] = {}
        """By trial, the id of the newest leg that was cancelled."""
        self._phase = Phase.OPEN
        self._changed = asyncio.Condition()
        self._proxies, self._awaited = 0, proxies_awaited

    async def hello(self) -> None:
        """Count a proxy that is up. Legs start when all first proxies are.

        Tune drops a proxy that is still starting as soon as another is free. It would then start a process for each of the
        first trials, if those are short.
        """
        self._proxies += 1
        await self._notify()

    async def start(self, leg: Leg) -> None:
        """Offer ``leg`` to a slot whose worker waits. If a slot trains its trial already, adopt that training.

        The leg of a dead proxy may still be in training. Its successor, with the larger id, then takes its place.
        """
        await self._proxies_up()
        async with self._changed:
            # Wait for a leg that is ending: its trial may have a higher target by now.
            await self._changed.wait_for(lambda: self._is_refused(leg) or self._can_start(leg))
            if self._is_refused(leg):
                if not self._is_replaced(leg):
                    self._mail[leg.number] = _Mail(leg)
                    self._mail[leg.number].post(Released())
                return
            slot = self._slot_of(leg.number)
            if slot is not None:
                slot.leg = replace(leg, micro_batch=slot.leg.micro_batch if slot.leg else None)
                self._mail[leg.number].leg = leg
                return
            slot = self._free(leg.number)
            assert slot is not None
            slot.offer(leg)
            self._mail[leg.number] = _Mail(leg)
            self._changed.notify_all()

    async def next(self, leg: Leg, after: int) -> list[LegEvent]:
        """Wait for events of ``leg`` beyond epoch ``after`` and return them. The last may be its end."""
        while self._phase is not Phase.CLOSED:
            mail = self._mail.get(leg.number)
            if mail is None or mail.leg.id != leg.id:
                break
            if events := mail.after(after):
                return events
            mail.news.clear()
            await mail.news.wait()
        return [Released()]

    async def take(self, index: int, incarnation: str) -> Leg | None:
        """Wait for the next leg of a slot's worker and return it; None if the worker is to return.

        A leg is handed out again when the worker that took it has died. The trial fails at its second death without an
        epoch done between.
        """
        slot = self._slots[index]
        async with self._changed:
            if slot.leg and slot.stage is Stage.ENDING:  # whoever trained it is gone
                self._end_leg(slot, Released())
            if slot.leg and slot.taken_by not in (None, incarnation):
                self._count_death(slot)
            slot.waiting = incarnation
            self._changed.notify_all()
            while True:
                # A worker that was killed while it waited may still have a call here: its successor's call counts.
                await self._changed.wait_for(lambda: slot.leg is not None or self._returns(slot, incarnation))
                if self._returns(slot, incarnation):
                    return None
                if slot.stage is not Stage.ENDING:
                    break
                self._end_leg(slot, Released())  # it was cancelled between its offer and this turn
                self._changed.notify_all()
            slot.waiting, slot.taken_by, slot.stage = None, incarnation, Stage.TAKEN
            return slot.leg

    async def report(self, index: int, incarnation: str, reports: Sequence[EpochReport]) -> bool:
        """Take epochs, in order: one, or those of a checkpoint that the ledger lacks. Return whether the worker is to train on."""
        slot = self._slots[index]
        if self._phase is Phase.CLOSED or not slot.is_of(incarnation):
            return False
        assert slot.leg is not None
        leg, mail = slot.leg, self._mail[slot.leg.number]
        for report in reports:
            # A successor reports its checkpoint's epochs again, which is no progress.
            if report.epoch > mail.last_epoch:
                self._deaths[leg.number] = 0
                mail.post(report)
        reached = reports[-1].epoch >= leg.target
        if not reached and self._phase is Phase.OPEN and slot.stage is Stage.TAKEN:
            return True
        # The agenda ends a leg at its target by itself. In a drain it may not know yet that this leg ends.
        self._end_leg(slot, None if reached else Released())
        await self._notify()
        return False

    async def end(self, index: int, incarnation: str, how: LegEnd) -> None:
        """End the leg of a slot's worker."""
        slot = self._slots[index]
        if slot.is_of(incarnation):
            self._end_leg(slot, how)
            await self._notify()

    async def begin_again(self, index: int, incarnation: str, micro_batch: int) -> None:
        """Offer the leg to the successors of a slot's workers. They train ``micro_batch`` images at a time."""
        slot = self._slots[index]
        if slot.stage is Stage.ENDING:
            await self.end(index, incarnation, Released())
        elif slot.is_of(incarnation):
            assert slot.leg is not None
            # This counts as no death, so a leg that began again with as many images would begin again for ever.
            if slot.leg.micro_batch is not None and micro_batch >= slot.leg.micro_batch:
                raise ValueError(f"{micro_batch} images at a time are not fewer than before")
            slot.leg, slot.taken_by, slot.stage = replace(slot.leg, micro_batch=micro_batch), None, Stage.OFFERED

    async def cancel(self, leg: Leg) -> None:
        """End ``leg`` and older legs of its trial with the next epoch, and refuse to start them. Later legs are unaffected."""
        self._cancelled[leg.number] = max(leg.id, self._cancelled.get(leg.number, 0))
        for slot in self._slots:
            if slot.leg and slot.is_training(leg.number) and slot.leg.id <= leg.id:
                slot.stage = Stage.ENDING
        await self._notify()

    async def drain(self) -> None:
        """End every leg with its running epoch, and start no other."""
        if self._phase is Phase.OPEN:
            self._phase = Phase.DRAINING
        await self._notify()

    async def close(self) -> None:
        """End everything: workers and proxies return."""
        self._phase = Phase.CLOSED
        for mail in self._mail.values():
            mail.news.set()
        await self._notify()

    async def is_closed(self) -> bool:
        """Return whether everything is to end."""
        return self._phase is Phase.CLOSED

    async def group_started(self, index: int, incarnation: str, host: str, worker: ActorHandle | None = None) -> None:
        """Note a ``worker`` of a slot on the node ``host``. The first worker of an ``incarnation`` begins its group."""
        slot = self._slots[index]
        if slot.up != incarnation:
            self._groups[index] += 1
            slot.up, slot.hosts, slot.workers = incarnation, (), ()
        slot.hosts, slot.workers = (*slot.hosts, host), (*slot.workers, worker)

    async def run_begins(self, index: int) -> None:
        """Forget the actors of a slot's last run, which are gone."""
        slot = self._slots[index]
        slot.up, slot.hosts, slot.workers, slot.controller, slot.why_not_begun = None, (), (), None, ""

    async def cannot_begin(self, index: int, why: str) -> None:
        """Note why a worker of a slot's run cannot begin its work."""
        self._slots[index].why_not_begun = why

    async def why_not_begun(self, index: int) -> str:
        """Return why a worker of a slot's run could not begin its work, or an empty text."""
        return self._slots[index].why_not_begun

    async def controller_started(self, index: int, controller: ActorHandle) -> None:
        """Note the ``controller`` of a slot's run."""
        self._slots[index].controller = controller

    async def actors(self, index: int) -> list[ActorHandle]:
        """Return the actors of a slot's run: its controller and its workers."""
        slot = self._slots[index]
        return [actor for actor in (slot.controller, *slot.workers) if actor is not None]

    async def hosts(self) -> dict[int, tuple[str, ...]]:
        """Return the nodes of each slot's workers. A slot that is not up yet has none, and lost slots are left out."""
        return {index: slot.hosts for index, slot in enumerate(self._slots) if not slot.is_lost}

    async def groups_started(self, index: int | None = None) -> int:
        """Return how many worker groups have been started in one slot, or in all."""
        return self._groups.total() if index is None else self._groups[index]

    async def open_slot(self) -> int:
        """Add a slot; return its index."""
        self._slots.append(_Slot())
        return len(self._slots) - 1

    async def lose_slot(self, index: int) -> int:
        """Give up a slot for good and release its leg; return how many slots are left."""
        slot = self._slots[index]
        slot.is_lost = True
        if slot.leg is not None:
            self._end_leg(slot, Released())
        await self._notify()
        return sum(not other.is_lost for other in self._slots)

    def _is_refused(self, leg: Leg) -> bool:
        """Return whether ``leg`` is not to start, now or later."""
        if self._phase is Phase.DRAINING and self._slot_of(leg.number) is not None:
            return self._is_replaced(leg)  # it adopts a running epoch, which is trained to its end
        over = leg.id <= self._cancelled.get(leg.number, 0)
        return self._phase is not Phase.OPEN or over or self._is_replaced(leg)

    def _is_replaced(self, leg: Leg) -> bool:
        """Return whether the mail is another leg's: a killed proxy's call may come after its successor's."""
        mail = self._mail.get(leg.number)
        return mail is not None and mail.leg.id > leg.id

    def _can_start(self, leg: Leg) -> bool:
        slot = self._slot_of(leg.number)
        return slot.stage is not Stage.ENDING if slot else self._free(leg.number) is not None

    def _returns(self, slot: _Slot, incarnation: str) -> bool:
        return self._phase is Phase.CLOSED or slot.is_lost or slot.waiting != incarnation

    def _slot_of(self, number: int) -> _Slot | None:
        return next((slot for slot in self._slots if slot.is_training(number)), None)

    def _free(self, number: int) -> _Slot | None:
        """Return a slot whose worker waits, preferably the slot that trained this trial before."""
        free = [slot for slot in self._slots if slot.leg is None and slot.waiting and not slot.is_lost]
        return min(free, key=lambda slot: slot.last_number != number, default=None)

    def _count_death(self, slot: _Slot) -> None:
        assert slot.leg is not None
        number = slot.leg.number
        self._deaths[number] += 1
        if self._deaths[number] >= MOST_DEATHS:
            why = f"its worker died {MOST_DEATHS} times without an epoch done between (killed, or out of the host's memory)"
            self._end_leg(slot, Failed(why, why))
            self._changed.notify_all()

    def _end_leg(self, slot: _Slot, how: LegEnd | None) -> None:
        assert slot.leg is not None
        if how is not None:
            self._mail[slot.leg.number].post(how)
        slot.leg, slot.taken_by, slot.stage = None, None, Stage.OFFERED

    async def _proxies_up(self) -> None:
        async with self._changed:
            while self._phase is Phase.OPEN and self._proxies < self._awaited:
                try:
                    await asyncio.wait_for(self._one_more_proxy(self._proxies), PROXY_SECONDS)
                except TimeoutError:
                    self._awaited = 0

    async def _one_more_proxy(self, there: int) -> None:
        await self._changed.wait_for(lambda: self._phase is not Phase.OPEN or self._proxies > there)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
