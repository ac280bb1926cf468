"""How legs end: workers that die, trials that fail, slots that are lost, and what is asked for from outside."""

import asyncio

from hpa_search.engine.mailbox import MOST_DEATHS
from tests.engine.played import LEG, run, training, waiting


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


def test_workers_that_begin_again_with_fewer_images_did_not_die_of_their_trial():
    async def play(exchange):
        await training(exchange, incarnation="0")
        for restart in range(1, MOST_DEATHS + 2):
            await exchange.begin_again(0, str(restart - 1), 32 >> restart)
            await exchange.begin_again(0, str(restart - 1), 1)  # another of the same group has run out too
            assert await exchange.take(0, str(restart)) == {**LEG, "micro_batch": 32 >> restart}
        assert await exchange.report(0, str(restart), [{"epoch": 2}]) is False
        assert await exchange.next(7, 0) == [{"epoch": 2}]

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


def test_a_cancelled_leg_ends_at_its_next_epoch():
    async def play(exchange):
        await training(exchange, {**LEG, "target": 9})
        await exchange.cancel(7)
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False
        await training(exchange, {**LEG, "number": 8})

    run(play)


def test_a_slot_given_up_gives_its_leg_back():
    async def play(exchange):
        await training(exchange)
        assert await exchange.lose_slot(0) == 0
        assert await exchange.next(7, 0) == [{"stopped": True}]

    run(play)


def test_a_halt_ends_the_leg_and_says_why():
    async def play(exchange):
        await training(exchange)
        await exchange.halt(0, "another", "not mine")
        await exchange.halt(0, "a", "the disk is full")
        assert await exchange.next(7, 0) == [{"halted": "the disk is full"}]
        assert await exchange.report(0, "a", [{"epoch": 1}]) is False

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
        await exchange.cancel(7, 1)
        started = asyncio.create_task(exchange.start({**LEG, "reported": 1, "target": 3}))
        await asyncio.sleep(0)
        assert not started.done()
        assert await exchange.report(0, "a", [{"epoch": 2}]) is False
        call = await waiting(exchange)
        await started
        assert (await call)["target"] == 3

    run(play)


def test_a_leg_that_joined_one_which_is_ended_only_now_is_given_back():
    """As there, when the order to end comes after the new leg."""

    async def play(exchange):
        await training(exchange)
        assert await exchange.report(0, "a", [{"epoch": 1}]) is True
        await exchange.start({**LEG, "reported": 1, "target": 3})
        await exchange.cancel(7, 1)
        assert await exchange.report(0, "a", [{"epoch": 2}]) is False
        assert await exchange.next(7, 1) == [{"epoch": 2}, {"stopped": True}]

    run(play)


def test_a_leg_of_a_dead_proxy_is_not_begun_when_its_trial_has_ended_meanwhile():
    async def play(exchange):
        dead = asyncio.create_task(exchange.start({**LEG, "reported": 1}))
        await asyncio.sleep(0)
        await exchange.cancel(7)
        call = await waiting(exchange)
        await dead
        await exchange.start({**LEG, "number": 8})
        assert (await call)["number"] == 8

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
