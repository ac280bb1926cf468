"""How legs are handed to slots, and epochs back."""

import asyncio

import pytest

from tests.engine.played import LEG, run, training, waiting


def test_a_leg_goes_to_a_worker_and_its_epochs_come_back():
    async def play(exchange):
        await training(exchange)
        assert await exchange.report(0, "a", [{"epoch": 1}]) is True
        assert await exchange.report(0, "a", [{"epoch": 2}]) is False
        assert (await exchange.next(7, 0))[0]["epoch"] == 1
        assert (await exchange.next(7, 1))[0]["epoch"] == 2

    run(play)


def test_a_proxy_that_dies_loses_no_epoch():
    async def play(exchange):
        await training(exchange)
        await exchange.report(0, "a", [{"epoch": 1}])
        await exchange.next(7, 0)  # taken by a proxy that dies before Tune hears of it
        await exchange.start(LEG)  # its successor finds the leg in training
        assert (await exchange.next(7, 0))[0]["epoch"] == 1

    run(play)


def test_a_proxy_that_dies_while_it_waits_for_a_slot_does_not_hand_its_leg_over_twice():
    async def play(exchange):
        starts = [asyncio.create_task(exchange.start(LEG)) for _ in range(2)]  # its own, and its successor's
        workers = [await waiting(exchange, slot) for slot in (0, 1)]
        await asyncio.gather(*starts)
        await asyncio.sleep(0.05)
        assert [worker.done() for worker in workers].count(True) == 1

    run(play, slots=2)


def test_a_second_leg_waits_for_a_free_slot():
    async def play(exchange):
        await training(exchange)
        second = asyncio.create_task(exchange.start({**LEG, "number": 8}))
        await asyncio.sleep(0.05)
        assert not second.done()
        await exchange.report(0, "a", [{"epoch": 2}])
        assert (await exchange.take(0, "a"))["number"] == 8
        await second

    run(play)


def test_a_slot_without_a_worker_gets_no_leg():
    async def play(exchange):
        await training(exchange, slot=1)
        second = asyncio.create_task(exchange.start({**LEG, "number": 8}))
        await asyncio.sleep(0.05)
        assert not second.done()
        assert (await exchange.take(0, "b"))["number"] == 8
        await second

    run(play, slots=2)


def test_legs_wait_for_the_first_proxies():
    async def play(exchange):
        await waiting(exchange)
        first = asyncio.create_task(exchange.start(LEG))
        await exchange.hello()
        await asyncio.sleep(0.05)
        assert not first.done()
        await exchange.hello()
        await first

    run(play, slots=2, proxies=2)


def test_legs_wait_for_proxies_no_longer_than_so(monkeypatch):
    monkeypatch.setattr("hpa_search.engine.mailbox.PATIENCE", 0.05)

    async def play(exchange):
        await training(exchange)

    run(play, proxies=2)


def test_each_proxy_that_comes_is_reason_to_wait_for_the_next(monkeypatch):
    monkeypatch.setattr("hpa_search.engine.mailbox.PATIENCE", 4.0)

    async def play(exchange):
        await waiting(exchange)
        first = asyncio.create_task(exchange.start(LEG))
        for _ in range(2):
            await asyncio.sleep(2.2)
            assert not first.done()
            await exchange.hello()
        assert not first.done()
        await first

    run(play, slots=2, proxies=3)


def test_epochs_that_come_together_come_back_once_each():
    async def play(exchange):
        leg = {**LEG, "target": 4}
        await training(exchange, leg)
        assert await exchange.report(0, "a", [{"epoch": 1}, {"epoch": 2}]) is True
        assert await exchange.take(0, "b") == leg
        assert await exchange.report(0, "b", [{"epoch": 2}, {"epoch": 3}]) is True
        assert await exchange.report(0, "b", [{"epoch": 4}]) is False
        assert [row["epoch"] for row in await exchange.next(7, 1)] == [2, 3, 4]

    run(play)


def test_a_trial_goes_back_to_the_slot_that_knows_it():
    async def play(exchange):
        for slot in (0, 1):
            await training(exchange, {**LEG, "number": slot}, slot, "w")
        for slot in (0, 1):
            await exchange.report(slot, "w", [{"epoch": 2}])
        calls = [await waiting(exchange, slot, "w") for slot in (0, 1)]
        await exchange.start({**LEG, "number": 1})
        assert (await calls[1])["number"] == 1

    run(play, slots=2)


def test_worker_groups_are_counted():
    async def play(exchange):
        for slot, incarnation in ((0, "a"), (1, "b"), (1, "c"), (1, "c")):
            await exchange.group_started(slot, incarnation, "node")
        assert [await exchange.groups_started(slot) for slot in (0, 1, None)] == [1, 2, 3]

    run(play, slots=2)


@pytest.mark.parametrize("call", ["start", "next", "take"])
def test_closing_frees_whoever_waits(call):
    async def play(exchange):
        await training(exchange)
        calls = {
            "start": lambda: exchange.start({**LEG, "number": 8}),
            "next": lambda: exchange.next(7, 0),
            "take": lambda: exchange.take(1, "b"),
        }
        stuck = asyncio.create_task(calls[call]())
        await asyncio.sleep(0.05)
        await exchange.close()
        await stuck
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False

    run(play, slots=2)


def test_a_slot_more_takes_legs_and_a_lost_one_sends_its_worker_home():
    async def play(exchange):
        await training(exchange)
        assert await exchange.open_slot() == 1
        for index, incarnation, host in ((1, "old", "node-d"), (1, "b", "node-b"), (1, "b", "node-c"), (0, "a", "node-a")):
            await exchange.group_started(index, incarnation, host)
        assert await exchange.hosts() == {0: ("node-a",), 1: ("node-b", "node-c")}
        assert await exchange.groups_started() == 3
        call = await waiting(exchange, slot=1, incarnation="b")
        assert await exchange.lose_slot(0) == 1
        assert await exchange.next(7, 0) == [{"stopped": True}]
        assert await exchange.hosts() == {1: ("node-b", "node-c")}
        await exchange.start(LEG)
        assert await call == LEG
        # The first slot's worker was only cut off, and comes back: what it brings is not taken, and it goes home.
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False
        assert await exchange.take(0, "a") is None
        assert await exchange.report(1, "b", [{"epoch": 1}]) is True

    run(play)
