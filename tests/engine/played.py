"""A leg, an exchange in this process, and workers that ask it for legs."""

import asyncio

from hpa_search.engine.mailbox import Exchange

LEG = {"number": 7, "parameters": {}, "reported": 0, "target": 2}


def run(play, slots=1, proxies=0):
    async def main():
        return await asyncio.wait_for(play(Exchange(slots, proxies)), timeout=60)

    return asyncio.run(main())


async def waiting(exchange, slot=0, incarnation="a"):
    """Return the call of a worker that waits for a leg."""
    call = asyncio.create_task(exchange.take(slot, incarnation))
    await asyncio.sleep(0)
    return call


async def training(exchange, leg=LEG, slot=0, incarnation="a"):
    """Bring a worker to train a leg."""
    call = await waiting(exchange, slot, incarnation)
    await exchange.start(leg)
    assert await call == leg
