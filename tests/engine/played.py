"""A leg, a mailbox in this process, and workers that ask it for legs."""

import asyncio
from dataclasses import replace

from hpa_search.engine.mailbox import Mailbox
from hpa_search.search.leg import EpochReport, Leg

LEG = Leg(id=1, number=7, parameters={}, reported=0, target=2)
OTHER = replace(LEG, id=2, number=8)
"""A leg of another trial."""


def after(leg, **changes):
    """Return the next leg of the same trial."""
    return replace(leg, id=leg.id + 1, **changes)


def done(epoch):
    """Return the report of an epoch."""
    return EpochReport(epoch, 0.5, {"epoch": epoch, "objective": 0.5})


def run(play, slots=1, proxies=0):
    async def main():
        return await asyncio.wait_for(play(Mailbox(slots, proxies)), timeout=60)

    return asyncio.run(main())


async def turns():
    """Let every task that can run do so, until all of them wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def waiting(mailbox, slot=0, incarnation="a"):
    """Return the call of a worker that waits for a leg."""
    call = asyncio.create_task(mailbox.take(slot, incarnation))
    await turns()
    return call


async def training(mailbox, leg=LEG, slot=0, incarnation="a"):
    """Bring a worker to train a leg."""
    call = await waiting(mailbox, slot, incarnation)
    await mailbox.start(leg)
    assert await call == leg
