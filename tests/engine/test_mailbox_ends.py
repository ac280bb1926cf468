"""How legs end: workers that die, trials that fail, slots that are lost, and what is asked for from outside."""

import asyncio
from dataclasses import replace

from hpa_search.engine.mailbox import MOST_DEATHS
from hpa_search.search.leg import Failed, Halted, Released
from tests.engine.played import LEG, OTHER, after, done, run, training, turns, waiting


def test_a_dead_worker_s_leg_goes_to_its_successor():
    async def play(mailbox):
        await training(mailbox)
        assert await mailbox.take(0, "b") == LEG
        assert await mailbox.report(0, "a", [done(1)]) is False  # the dead speak no more
        assert await mailbox.report(0, "b", [done(1)]) is True

    run(play)


def test_a_worker_that_died_waiting_takes_nothing_from_its_successor():
    async def play(mailbox):
        dead = await waiting(mailbox, incarnation="dead")
        await training(mailbox, incarnation="b")
        assert await dead is None
        assert await mailbox.report(0, "b", [done(1)]) is True

    run(play)


def test_a_trial_that_kills_every_worker_fails():
    async def play(mailbox):
        await training(mailbox, incarnation="0")
        for incarnation in range(1, MOST_DEATHS):
            await mailbox.take(0, str(incarnation))
        last = await waiting(mailbox, incarnation="last")
        assert "died" in (await mailbox.next(LEG, 0))[0].why
        await mailbox.start(OTHER)
        assert (await last).number == 8

    run(play)


def test_deaths_with_an_epoch_done_between_do_not_add_up():
    async def play(mailbox):
        await training(mailbox, replace(LEG, target=9), incarnation="1")
        for epoch in range(1, 6):
            assert await mailbox.report(0, str(epoch), [done(epoch)])
            await mailbox.take(0, str(epoch + 1))

    run(play)


def test_an_epoch_reported_again_is_no_progress():
    async def play(mailbox):
        await training(mailbox, incarnation="0")
        await mailbox.report(0, "0", [done(1)])
        for incarnation in ("1", "2"):
            call = await waiting(mailbox, incarnation=incarnation)
            await turns()
            if call.done():
                await mailbox.report(0, incarnation, [done(1)])
        assert "died" in (await mailbox.next(LEG, 1))[0].why

    run(play)


def test_workers_that_begin_again_with_fewer_images_did_not_die_of_their_trial():
    async def play(mailbox):
        await training(mailbox, incarnation="0")
        for restart in range(1, MOST_DEATHS + 2):
            await mailbox.begin_again(0, str(restart - 1), 32 >> restart)
            await mailbox.begin_again(0, str(restart - 1), 1)  # another of the same group has run out too
            assert await mailbox.take(0, str(restart)) == replace(LEG, micro_batch=32 >> restart)
        assert await mailbox.report(0, str(restart), [done(2)]) is False
        assert await mailbox.next(LEG, 0) == [done(2)]

    run(play)


def test_a_cancelled_leg_that_runs_out_of_memory_does_not_begin_again():
    async def play(mailbox):
        await training(mailbox, replace(LEG, target=9))
        await mailbox.cancel(LEG)
        await mailbox.begin_again(0, "a", 8)
        successor = await waiting(mailbox, incarnation="b")
        assert not successor.done()
        await mailbox.start(OTHER)
        assert await successor == OTHER

    run(play)


def test_a_leg_that_is_cancelled_as_it_is_offered_is_not_trained():
    async def play(mailbox):
        call = await waiting(mailbox)
        await asyncio.gather(mailbox.start(LEG), mailbox.cancel(LEG))
        await turns()
        assert not call.done() and await mailbox.next(LEG, 0) == [Released()]
        await mailbox.start(OTHER)
        assert await call == OTHER

    run(play)


def test_a_drain_takes_every_epoch_of_a_checkpoint():
    async def play(mailbox):
        await training(mailbox, replace(LEG, target=9))
        await mailbox.drain()
        assert await mailbox.report(0, "a", [done(1), done(2)]) is False
        assert await mailbox.next(LEG, 0) == [done(1), done(2), Released()]

    run(play)


def test_a_failure_ends_the_leg():
    async def play(mailbox):
        await training(mailbox)
        failure = Failed("ValueError: no", "Traceback ...")
        await mailbox.end(0, "a", failure)
        assert await mailbox.next(LEG, 0) == [failure]
        await training(mailbox, OTHER)

    run(play)


def test_a_cancelled_leg_whose_worker_died_is_over():
    async def play(mailbox):
        await training(mailbox)
        await mailbox.cancel(LEG)
        successor = await waiting(mailbox, incarnation="b")
        await turns()
        assert not successor.done()
        await mailbox.start(OTHER)
        assert (await successor).number == 8

    run(play)


def test_a_cancel_that_comes_late_ends_no_later_leg():
    async def play(mailbox):
        later = after(LEG, reported=2, target=6)
        await training(mailbox, later)
        await mailbox.cancel(LEG)
        assert await mailbox.report(0, "a", [done(3)]) is True
        await mailbox.cancel(later)
        assert await mailbox.report(0, "a", [done(4)]) is False

    run(play)


def test_a_cancelled_leg_ends_at_its_next_epoch():
    async def play(mailbox):
        await training(mailbox, replace(LEG, target=9))
        await mailbox.cancel(LEG)
        assert await mailbox.report(0, "a", [done(1)]) is False
        await training(mailbox, OTHER)

    run(play)


def test_a_slot_given_up_gives_its_leg_back():
    async def play(mailbox):
        await training(mailbox)
        assert await mailbox.lose_slot(0) == 0
        assert await mailbox.next(LEG, 0) == [Released()]

    run(play)


def test_a_halt_ends_the_leg_and_says_why():
    async def play(mailbox):
        await training(mailbox)
        await mailbox.end(0, "another", Halted("not mine"))
        await mailbox.end(0, "a", Halted("the disk is full"))
        assert await mailbox.next(LEG, 0) == [Halted("the disk is full")]
        assert await mailbox.report(0, "a", [done(1)]) is False

    run(play)


def test_a_waiting_worker_of_a_lost_slot_goes_home():
    async def play(mailbox):
        call = await waiting(mailbox)
        await mailbox.lose_slot(0)
        assert await call is None

    run(play)


def test_a_leg_that_is_given_back_is_free_to_be_started_again():
    async def play(mailbox):
        await training(mailbox)
        await mailbox.end(0, "another", Released())
        assert await mailbox.report(0, "a", [done(1)]) is True
        await mailbox.end(0, "a", Released())
        assert (await mailbox.next(LEG, 1)) == [Released()]
        call = await waiting(mailbox, incarnation="b")
        await mailbox.start(after(LEG, reported=1))
        assert (await call).reported == 1

    run(play)


def test_a_trial_that_is_being_ended_and_wanted_again_starts_anew():
    """As when the time was up and the search is extended before the worker has heard of it."""

    async def play(mailbox):
        await training(mailbox)
        assert await mailbox.report(0, "a", [done(1)]) is True
        await mailbox.cancel(LEG)
        started = asyncio.create_task(mailbox.start(after(LEG, reported=1, target=3)))
        await turns()
        assert not started.done()
        assert await mailbox.report(0, "a", [done(2)]) is False
        call = await waiting(mailbox)
        await started
        assert (await call).target == 3

    run(play)


def test_a_leg_that_adopted_another_outlives_the_other_s_late_cancellation():
    """The worker trains on to the later leg's target, which it is handed when it has reached the earlier leg's."""

    async def play(mailbox):
        await training(mailbox)
        assert await mailbox.report(0, "a", [done(1)]) is True
        later = after(LEG, reported=1, target=3)
        await mailbox.start(later)
        await mailbox.cancel(LEG)
        assert await mailbox.report(0, "a", [done(2)]) is True
        assert await mailbox.take(0, "a") == later
        assert [await mailbox.report(0, "a", [done(epoch)]) for epoch in (2, 3)] == [True, False]
        assert await mailbox.next(later, 1) == [done(2), done(3)]
        assert await mailbox.next(LEG, 1) == [Released()]  # nobody reads an older leg's events

    run(play)


def test_a_dead_proxy_s_call_that_comes_after_its_successor_s_starts_nothing():
    async def play(mailbox):
        later = after(LEG, target=1)
        await training(mailbox, later)
        assert await mailbox.report(0, "a", [done(1)]) is False
        call = await waiting(mailbox)
        await mailbox.start(LEG)
        assert not call.done() and await mailbox.next(later, 0) == [done(1)]

    run(play)


def test_a_leg_of_a_dead_proxy_is_not_begun_when_its_trial_has_ended_meanwhile():
    async def play(mailbox):
        dead = asyncio.create_task(mailbox.start(replace(LEG, reported=1)))
        await turns()
        await mailbox.cancel(LEG)
        call = await waiting(mailbox)
        await dead
        await mailbox.start(OTHER)
        assert (await call).number == 8

    run(play)


def test_draining_ends_legs_with_their_running_epoch_and_starts_none():
    async def play(mailbox):
        await training(mailbox)
        await mailbox.drain()
        assert await mailbox.report(0, "a", [done(1)]) is False
        assert await mailbox.next(LEG, 0) == [done(1), Released()]
        await mailbox.start(OTHER)
        assert await mailbox.next(OTHER, 0) == [Released()]

    run(play)
