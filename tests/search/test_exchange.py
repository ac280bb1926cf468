import asyncio

import pytest

from hpa_search.search.exchange import MOST_DEATHS, Exchange

LEG = {"number": 7, "parameters": {}, "reported": 0, "target": 2}


def run(play, slots=1, proxies=0):
    async def main():
        return await asyncio.wait_for(play(Exchange(slots, proxies)), timeout=5)

    return asyncio.run(main())


def test_a_leg_goes_to_a_worker_and_its_epochs_come_back():
    async def play(exchange):
        await exchange.start(LEG)
        assert await exchange.take(0, "a") == LEG
        assert await exchange.report(0, "a", {"epoch": 1}) is True
        assert await exchange.report(0, "a", {"epoch": 2}) is False
        assert (await exchange.next(7, 0))["epoch"] == 1
        assert (await exchange.next(7, 1))["epoch"] == 2

    run(play)


def test_a_proxy_that_dies_loses_no_epoch():
    async def play(exchange):
        await exchange.start(LEG)
        await exchange.take(0, "a")
        await exchange.report(0, "a", {"epoch": 1})
        await exchange.next(7, 0)  # taken by a proxy that dies before Tune hears of it
        await exchange.start(LEG)  # its successor finds the leg in training
        assert (await exchange.next(7, 0))["epoch"] == 1

    run(play)


def test_a_second_leg_waits_for_a_free_slot():
    async def play(exchange):
        await exchange.start(LEG)
        second = asyncio.create_task(exchange.start({**LEG, "number": 8}))
        await asyncio.sleep(0.05)
        assert not second.done()
        await exchange.take(0, "a")
        await exchange.report(0, "a", {"epoch": 2})
        await second
        assert (await exchange.take(0, "a"))["number"] == 8

    run(play)


def test_legs_wait_for_the_first_proxies():
    async def play(exchange):
        first = asyncio.create_task(exchange.start(LEG))
        await exchange.hello()
        await asyncio.sleep(0.05)
        assert not first.done()
        await exchange.hello()
        await first

    run(play, slots=2, proxies=2)


def test_a_dead_worker_s_leg_goes_to_its_successor():
    async def play(exchange):
        await exchange.start(LEG)
        await exchange.take(0, "a")
        assert await exchange.take(0, "b") == LEG
        assert await exchange.report(0, "a", {"epoch": 1}) is False  # the dead speak no more
        assert await exchange.report(0, "b", {"epoch": 1}) is True

    run(play)


def test_a_trial_that_kills_every_worker_fails():
    async def play(exchange):
        await exchange.start(LEG)
        for incarnation in range(MOST_DEATHS):
            await exchange.take(0, str(incarnation))
        waiting = asyncio.create_task(exchange.take(0, "last"))
        assert "died" in (await exchange.next(7, 0))["failed"]
        await exchange.start({**LEG, "number": 8})
        assert (await waiting)["number"] == 8

    run(play)


def test_deaths_with_an_epoch_done_between_do_not_add_up():
    async def play(exchange):
        await exchange.start({**LEG, "target": 9})
        for epoch in range(1, 6):
            await exchange.take(0, str(epoch))
            assert await exchange.report(0, str(epoch), {"epoch": epoch})

    run(play)


def test_a_failure_ends_the_leg():
    async def play(exchange):
        await exchange.start(LEG)
        await exchange.take(0, "a")
        await exchange.fail(0, "a", "ValueError: no", "Traceback ...")
        assert await exchange.next(7, 0) == {"failed": "ValueError: no", "details": "Traceback ..."}
        await exchange.start({**LEG, "number": 8})

    run(play)


def test_a_trial_goes_back_to_the_slot_that_knows_it():
    async def play(exchange):
        await exchange.start({**LEG, "number": 1})
        await exchange.start({**LEG, "number": 2})
        for slot in (0, 1):
            await exchange.take(slot, "w")
            await exchange.report(slot, "w", {"epoch": 2})
        await exchange.start({**LEG, "number": 2})
        assert (await exchange.take(1, "w"))["number"] == 2

    run(play, slots=2)


def test_a_slot_given_up_gives_its_leg_back():
    async def play(exchange):
        await exchange.start(LEG)
        assert await exchange.lose_slot(0) == 0
        assert await exchange.next(7, 0) == {"stopped": True}

    run(play)


@pytest.mark.parametrize("call", ["start", "next", "take"])
def test_closing_frees_whoever_waits(call):
    async def play(exchange):
        await exchange.start(LEG)
        calls = {
            "start": lambda: exchange.start({**LEG, "number": 8}),
            "next": lambda: exchange.next(7, 0),
            "take": lambda: exchange.take(1, "a"),
        }
        waiting = asyncio.create_task(calls[call]())
        if call == "start":
            await exchange.start({**LEG, "number": 9})
        await asyncio.sleep(0.05)
        await exchange.close()
        await waiting
        assert await exchange.report(0, "a", {"epoch": 1}) is False

    run(play, slots=2)
