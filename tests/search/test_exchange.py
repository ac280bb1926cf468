import asyncio

import pytest

from hpa_search.search.exchange import MOST_DEATHS, Exchange

LEG = {"number": 7, "parameters": {}, "reported": 0, "target": 2}


def run(play, slots=1, proxies=0):
    async def main():
        return await asyncio.wait_for(play(Exchange(slots, proxies)), timeout=5)

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
    monkeypatch.setattr("hpa_search.search.exchange.PATIENCE", 0.05)

    async def play(exchange):
        await training(exchange)

    run(play, proxies=2)


def test_each_proxy_that_comes_is_reason_to_wait_for_the_next(monkeypatch):
    monkeypatch.setattr("hpa_search.search.exchange.PATIENCE", 0.4)

    async def play(exchange):
        await waiting(exchange)
        first = asyncio.create_task(exchange.start(LEG))
        for _ in range(2):
            await asyncio.sleep(0.3)
            assert not first.done()
            await exchange.hello()
        assert not first.done()
        await first

    run(play, slots=2, proxies=3)


def test_a_dead_worker_s_leg_goes_to_its_successor():
    async def play(exchange):
        await training(exchange)
        assert await exchange.take(0, "b") == LEG
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False  # the dead speak no more
        assert await exchange.report(0, "b", [{"epoch": 1}]) is True

    run(play)


def test_a_worker_that_died_waiting_takes_nothing_from_its_successor():
    async def play(exchange):
        dead = await waiting(exchange, incarnation="dead")
        await training(exchange, incarnation="b")
        assert await dead is None
        assert await exchange.report(0, "b", [{"epoch": 1}]) is True

    run(play)


def test_a_trial_that_kills_every_worker_fails():
    async def play(exchange):
        await training(exchange, incarnation="0")
        for incarnation in range(1, MOST_DEATHS):
            await exchange.take(0, str(incarnation))
        last = await waiting(exchange, incarnation="last")
        assert "died" in (await exchange.next(7, 0))[0]["failed"]
        await exchange.start({**LEG, "number": 8})
        assert (await last)["number"] == 8

    run(play)


def test_deaths_with_an_epoch_done_between_do_not_add_up():
    async def play(exchange):
        await training(exchange, {**LEG, "target": 9}, incarnation="1")
        for epoch in range(1, 6):
            assert await exchange.report(0, str(epoch), [{"epoch": epoch}])
            await exchange.take(0, str(epoch + 1))

    run(play)


def test_an_epoch_reported_again_is_no_progress():
    async def play(exchange):
        await training(exchange, incarnation="0")
        await exchange.report(0, "0", [{"epoch": 1}])
        for incarnation in ("1", "2"):
            call = await waiting(exchange, incarnation=incarnation)
            await asyncio.sleep(0.05)
            if call.done():
                await exchange.report(0, incarnation, [{"epoch": 1}])
        assert "died" in (await exchange.next(7, 1))[0]["failed"]

    run(play)


def test_a_failure_ends_the_leg():
    async def play(exchange):
        await training(exchange)
        await exchange.fail(0, "a", "ValueError: no", "Traceback ...")
        assert await exchange.next(7, 0) == [{"failed": "ValueError: no", "details": "Traceback ..."}]
        await training(exchange, {**LEG, "number": 8})

    run(play)


def test_a_cancelled_leg_whose_worker_died_is_over():
    async def play(exchange):
        await training(exchange)
        await exchange.cancel(7)
        successor = await waiting(exchange, incarnation="b")
        await asyncio.sleep(0.05)
        assert not successor.done()
        await exchange.start({**LEG, "number": 8})
        assert (await successor)["number"] == 8

    run(play)


def test_a_cancel_that_comes_late_ends_no_later_leg():
    async def play(exchange):
        await training(exchange, {**LEG, "reported": 2, "target": 6})
        await exchange.cancel(7, 2)
        assert await exchange.report(0, "a", [{"epoch": 3}]) is True
        await exchange.cancel(7, 3)
        assert await exchange.report(0, "a", [{"epoch": 4}]) is False

    run(play)


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


def test_a_cancelled_leg_ends_at_its_next_epoch():
    async def play(exchange):
        await training(exchange, {**LEG, "target": 9})
        await exchange.cancel(7)
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False
        await training(exchange, {**LEG, "number": 8})

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


def test_a_slot_given_up_gives_its_leg_back():
    async def play(exchange):
        await training(exchange)
        assert await exchange.lose_slot(0) == 0
        assert await exchange.next(7, 0) == [{"stopped": True}]

    run(play)


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


def test_a_halt_ends_the_leg_and_says_why():
    async def play(exchange):
        await training(exchange)
        await exchange.halt(0, "another", "not mine")
        await exchange.halt(0, "a", "the disk is full")
        assert await exchange.next(7, 0) == [{"halted": "the disk is full"}]
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False

    run(play)


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


def test_a_waiting_worker_of_a_lost_slot_goes_home():
    async def play(exchange):
        call = await waiting(exchange)
        await exchange.lose_slot(0)
        assert await call is None

    run(play)


def test_a_leg_that_is_given_back_is_free_to_be_started_again():
    async def play(exchange):
        await training(exchange)
        await exchange.give_back(0, "another")
        assert await exchange.report(0, "a", [{"epoch": 1}]) is True
        await exchange.give_back(0, "a")
        assert (await exchange.next(7, 1)) == [{"stopped": True}]
        call = await waiting(exchange, incarnation="b")
        await exchange.start({**LEG, "reported": 1})
        assert (await call)["reported"] == 1

    run(play)


def test_a_trial_that_is_being_ended_and_wanted_again_starts_anew():
    """As when the time was up and the search is extended before the worker has heard of it."""

    async def play(exchange):
        await training(exchange)
        assert await exchange.report(0, "a", [{"epoch": 1}]) is True
        await exchange.cancel(7)
        started = asyncio.create_task(exchange.start({**LEG, "reported": 1, "target": 3}))
        await asyncio.sleep(0)
        assert not started.done()
        assert await exchange.report(0, "a", [{"epoch": 2}]) is False
        call = await waiting(exchange)
        await started
        assert (await call)["target"] == 3

    run(play)


def test_a_pause_ends_legs_with_their_running_epoch_and_starts_none():
    async def play(exchange):
        await training(exchange)
        await exchange.pause()
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False
        assert (await exchange.next(7, 0))[0]["epoch"] == 1
        await exchange.start({**LEG, "number": 8})
        assert await exchange.next(8, 0) == [{"stopped": True}]

    run(play)
