"""How legs are handed to slots, and epochs back."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hpa_search.engine import mailbox as module
from hpa_search.search.leg import Released
from tests.engine.played import LEG, OTHER, after, done, run, training, turns, waiting


def test_a_leg_goes_to_a_worker_and_its_epochs_come_back():
    async def play(mailbox):
        await training(mailbox)
        assert await mailbox.report(0, "a", [done(1)]) is True
        assert await mailbox.report(0, "a", [done(2)]) is False
        assert (await mailbox.next(LEG, 0))[0].epoch == 1
        assert (await mailbox.next(LEG, 1))[0].epoch == 2

    run(play)


def test_a_proxy_that_dies_loses_no_epoch():
    async def play(mailbox):
        await training(mailbox)
        await mailbox.report(0, "a", [done(1)])
        await mailbox.next(LEG, 0)  # taken by a proxy that dies before Tune hears of it
        await mailbox.start(after(LEG))  # its successor finds the trial in training
        assert (await mailbox.next(after(LEG), 0))[0].epoch == 1

    run(play)


def test_a_proxy_that_dies_while_it_waits_for_a_slot_does_not_hand_its_leg_over_twice():
    async def play(mailbox):
        starts = [asyncio.create_task(mailbox.start(leg)) for leg in (LEG, after(LEG))]  # its own, and its successor's
        workers = [await waiting(mailbox, slot) for slot in (0, 1)]
        await asyncio.gather(*starts)
        await turns()
        assert [worker.done() for worker in workers].count(True) == 1

    run(play, slots=2)


def test_a_second_leg_waits_for_a_free_slot():
    async def play(mailbox):
        await training(mailbox)
        second = asyncio.create_task(mailbox.start(OTHER))
        await turns()
        assert not second.done()
        await mailbox.report(0, "a", [done(2)])
        assert (await mailbox.take(0, "a")).number == 8
        await second

    run(play)


def test_a_slot_without_a_worker_gets_no_leg():
    async def play(mailbox):
        await training(mailbox, slot=1)
        second = asyncio.create_task(mailbox.start(OTHER))
        await turns()
        assert not second.done()
        assert (await mailbox.take(0, "b")).number == 8
        await second

    run(play, slots=2)


def test_legs_wait_for_the_first_proxies():
    async def play(mailbox):
        await waiting(mailbox)
        first = asyncio.create_task(mailbox.start(LEG))
        await mailbox.hello()
        await turns()
        assert not first.done()
        await mailbox.hello()
        await first

    run(play, slots=2, proxies=2)


def test_legs_wait_for_proxies_no_longer_than_so(monkeypatch):
    monkeypatch.setattr("hpa_search.engine.mailbox.PROXY_SECONDS", 0.05)

    async def play(mailbox):
        await training(mailbox)

    run(play, proxies=2)


def test_each_proxy_that_comes_is_reason_to_wait_for_the_next(monkeypatch):
    async def play(mailbox):
        waits, patience_ends = [], asyncio.Event()

        async def wait_for(call, seconds):
            waits.append(seconds)
            tasks = [asyncio.ensure_future(call), asyncio.ensure_future(patience_ends.wait())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            is_there = tasks[0].done()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not is_there:
                raise TimeoutError

        monkeypatch.setattr(module, "asyncio", SimpleNamespace(**{**vars(asyncio), "wait_for": wait_for}))
        await waiting(mailbox)
        first = asyncio.create_task(mailbox.start(LEG))
        for proxies in (1, 2):
            await turns()
            assert len(waits) == proxies and not first.done()
            await mailbox.hello()
        await turns()
        assert len(waits) == 3 and not first.done()
        patience_ends.set()
        await first

    run(play, slots=2, proxies=3)


def test_epochs_that_a_successor_reports_again_come_back_once_each():
    async def play(mailbox):
        leg = replace(LEG, target=4)
        await training(mailbox, leg)
        assert [await mailbox.report(0, "a", [done(epoch)]) for epoch in (1, 2)] == [True, True]
        assert await mailbox.take(0, "b") == leg
        assert [await mailbox.report(0, "b", [done(epoch)]) for epoch in (2, 3, 4)] == [True, True, False]
        assert [event.epoch for event in await mailbox.next(LEG, 1)] == [2, 3, 4]

    run(play)


def test_a_trial_goes_back_to_the_slot_that_knows_it():
    async def play(mailbox):
        for slot in (0, 1):
            await training(mailbox, replace(LEG, number=slot), slot, "w")
        for slot in (0, 1):
            await mailbox.report(slot, "w", [done(2)])
        calls = [await waiting(mailbox, slot, "w") for slot in (0, 1)]
        await mailbox.start(replace(LEG, id=2, number=1))
        assert (await calls[1]).number == 1

    run(play, slots=2)


def test_worker_groups_are_counted():
    async def play(mailbox):
        for slot, incarnation in ((0, "a"), (1, "b"), (1, "c"), (1, "c")):
            await mailbox.group_started(slot, incarnation, "node")
        assert [await mailbox.groups_started(slot) for slot in (0, 1, None)] == [1, 2, 3]

    run(play, slots=2)


@pytest.mark.parametrize("call", ["start", "next", "take"])
def test_closing_frees_whoever_waits(call):
    async def play(mailbox):
        await training(mailbox)
        calls = {
            "start": lambda: mailbox.start(OTHER),
            "next": lambda: mailbox.next(LEG, 0),
            "take": lambda: mailbox.take(1, "b"),
        }
        stuck = asyncio.create_task(calls[call]())
        await turns()
        await mailbox.close()
        await stuck
        assert await mailbox.report(0, "a", [done(1)]) is False

    run(play, slots=2)


def test_a_slot_more_takes_legs_and_a_lost_one_sends_its_worker_home():
    async def play(mailbox):
        await training(mailbox)
        assert await mailbox.open_slot() == 1
        for index, incarnation, host in ((1, "old", "node-d"), (1, "b", "node-b"), (1, "b", "node-c"), (0, "a", "node-a")):
            await mailbox.group_started(index, incarnation, host)
        assert await mailbox.hosts() == {0: ("node-a",), 1: ("node-b", "node-c")}
        assert await mailbox.groups_started() == 3
        call = await waiting(mailbox, slot=1, incarnation="b")
        assert await mailbox.lose_slot(0) == 1
        assert await mailbox.next(LEG, 0) == [Released()]
        assert await mailbox.hosts() == {1: ("node-b", "node-c")}
        await mailbox.start(after(LEG))
        assert await call == after(LEG)
        # The first slot's worker was only cut off, and comes back: its report is refused, and it returns.
        assert await mailbox.report(0, "a", [done(1)]) is False
        assert await mailbox.take(0, "a") is None
        assert await mailbox.report(1, "b", [done(1)]) is True

    run(play)


def test_why_a_run_could_not_begin_is_kept_until_the_next_run():
    async def play(mailbox):
        assert await mailbox.why_not_begun(0) == ""
        await mailbox.cannot_begin(0, "ModuleNotFoundError: No module named 'trials'")
        assert [await mailbox.why_not_begun(slot) for slot in (0, 1)] == ["ModuleNotFoundError: No module named 'trials'", ""]
        await mailbox.run_begins(0)
        assert await mailbox.why_not_begun(0) == ""

    run(play, slots=2)
