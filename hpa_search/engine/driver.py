"""The driver: takes the lease, brings up Ray, slots and Tune, and runs the agenda to its end."""

import os
import select
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune import CheckpointConfig, PlacementGroupFactory, TuneError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpa_search.engine.cluster_up import end_processes, is_in_use, ray_up
from hpa_search.engine.commands import COMMANDS, CommandBox
from hpa_search.engine.ending import Ending, Interrupted, Outcome, signals
from hpa_search.engine.fleet import Fleet, first_places
from hpa_search.engine.listener import Listener, budget_now, catch_up
from hpa_search.engine.mailbox import Exchange
from hpa_search.engine.proxy import Proxy
from hpa_search.engine.ray_logs import RayLogs
from hpa_search.engine.scratch import remove, scratch_folder
from hpa_search.engine.slot import Slot, count_slots, gpus_per_worker, in_words, scaling
from hpa_search.engine.tune_adapter import AgendaScheduler, AgendaSearcher, StopWhen
from hpa_search.engine.worker import OpenTrial
from hpa_search.errors import UserError
from hpa_search.files import write_text
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import LedgerError
from hpa_search.ledger.status import FINISHED, RESTS
from hpa_search.ledger.stopwatch import Stopwatch
from hpa_search.ledger.study_place import choose_study
from hpa_search.search.agenda import Agenda, Watcher
from hpa_search.space.search import Search
from hpa_search.storage.place import Place

ANSWER_SECONDS = 30.0
SLOW_SECONDS = 300.0
"""A worker of Ray's that has not come up after so long never will."""
SICK_SECONDS = 40.0
"""The same where it has left an error of Python's in the log: it ends while it imports."""
GPUS = "gpus"
"""The ledger's note of a search that has trained on GPUs because its cluster has some."""


def run_search(
    search: Search,
    out: Path,
    *,
    open_trial: OpenTrial,
    job: Any,
    study: str | None = None,
    commands: Place | None = None,
    ray_address: str | None = None,
    watchers: tuple[Watcher, ...] = (),
    begin: Callable[[], None] = lambda: None,
    conclude: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Run the search in ``out``, from wherever its ledger is, and return how it ended.

    ``open_trial(job, number, parameters)`` opens a trial in a worker. ``study`` is the URL of a database for the ledger, which
    is otherwise a journal in ``out``; ``commands`` is where people leave commands, OUT/commands if None. ``ray_address`` names
    a Ray to join, whose nodes may come and go; without one a local Ray is started and ended. ``begin`` is called
    first, when no other driver can be at work any more, and ``conclude`` last, when no trial is left to train: the search is
    finished when it has returned.
    Raises UserError while another driver holds the search, when no slot can run, and when the ledger or ``out`` cannot be
    written any more.
    """
    out = out.absolute()  # the lease is renewed also while Ray is started in another current folder
    ending, box = Ending(), CommandBox(commands or Place.of(out) / COMMANDS)
    choose_study(out, study, search.name)
    of_before = box.waiting()  # what comes later, comes to this driver
    held = lease.take(out, search.name, on_lost=ending.because_of, say=say)
    ending.when_now(held.ledger.hurry)
    try:
        begin()
        ledger = held.ledger
        catch_up(box, of_before, ledger)
        now = search.model_copy(update={"budget": budget_now(search.budget, ledger)})
        agenda = Agenda(now, ledger, slots=1, spent_seconds=lambda: held.spent_seconds, watchers=watchers)
        if ledger.noted().get(RESTS):
            ledger.note(RESTS, None)
        if agenda.finished:
            return _conclude(agenda, ending, conclude)
        if ledger.noted().get(FINISHED):  # it has been extended
            ledger.note(FINISHED, False)
        agenda.take_up()
        with (
            suppress(Interrupted),
            scratch_folder() as scratch,
            signals(ending, partial(_leave_behind, scratch)),
            ExitStack() as stack,
        ):
            stack.callback(_end_what_hangs, ending)
            with ending.starting():
                stack.enter_context(ray_up(ray_address, scratch))
            listener = stack.enter_context(Listener(box, agenda, search.budget, ending, say))
            # Once more where the search was extended while its slots were closing.
            while not (agenda.finished or agenda.pausing or agenda.broken or ending.now):
                run = _Run(agenda, out, scratch, listener, open_trial, job, ending, held.stopwatch, say)
                run.to_the_end(joined=ray_address is not None)
        if why := ending.trouble or agenda.broken:
            raise UserError(
                f"the search was broken off: {why}. Mend that and run it again; everything until then is kept "
                f"(failed trials: {out / 'trials'}/*/error.txt)"
            )
        return _conclude(agenda, ending, conclude)
    finally:
        held.release()


def _end_what_hangs(ending: Ending) -> None:
    """Kill what of a local Ray is left where the driver is to end at once and a slot is still in a call to it."""
    if ending.now and is_in_use():
        end_processes()


def _leave_behind(scratch: Path) -> None:
    """End what would outlive a driver that cannot end in order."""
    end_processes()
    remove(scratch)
    with suppress(OSError):  # the terminal may be gone, and a reader that has stopped must not be waited for
        if select.select([], [2], [], 0)[1]:
            os.write(2, b"Interrupted; to go on, give the same command again.\n")


def _conclude(agenda: Agenda, ending: Ending, conclude: Callable[[], None]) -> Outcome:
    """Close the ledger of a search that is finished, or note that it rests; return how the driver ended."""
    paused, agenda.pausing, agenda.stopping = agenda.pausing, False, ending.now
    if agenda.finished:
        agenda.close()
        conclude()
        agenda.ledger.note(FINISHED, True)
        return "finished"
    outcome: Outcome = "paused" if paused and not ending.now else ending.outcome
    if outcome in ("paused", "stopped"):
        agenda.ledger.note(RESTS, outcome)
    return outcome


class _Run:
    """One stay of a driver on one Ray."""

    def __init__(
        self,
        agenda: Agenda,
        out: Path,
        scratch: Path,
        listener: Listener,
        open_trial: OpenTrial,
        job: Any,
        ending: Ending,
        stopwatch: Stopwatch,
        say: Callable[[str], None],
    ) -> None:
        self._agenda, self._out, self._scratch, self._listener = agenda, out, scratch, listener
        self._ending, self._stopwatch, self._say = ending, stopwatch, say
        self._arguments, self._logs = {"open_trial": open_trial, "job": job}, RayLogs(scratch)

    def to_the_end(self, *, joined: bool) -> None:
        """Search until there is nothing to run, the driver is to end, or GPUs have come to a cluster that had none.

        Nodes that hold a slot are waited for in a cluster that was ``joined``.
        """
        resources, ledger = self._agenda.search.resources, self._agenda.ledger
        # The nodes of a cluster may come one after the other: what has had GPUs waits for them.
        needed = joined and bool(ledger.noted().get(GPUS))

        def gpus_now() -> float:
            return gpus_per_worker(resources, needed=needed)

        if not first_places(
            lambda: count_slots(resources, gpus_now()),
            lambda: in_words(resources, gpus_now()),
            may_come=joined,
            say=self._say,
            over=lambda: self._ending.now,
        ):
            return
        self._gpus = gpus = gpus_now()
        if joined and gpus and resources.gpus == "auto":
            ledger.note(GPUS, True)
        places = partial(count_slots, resources, gpus)
        self._say(f"{places()} slot(s), {in_words(resources, gpus)}.")
        name = f"exchange-{uuid.uuid4().hex[:8]}"
        self._exchange = self._open_exchange(name, places())
        self._listener.on_pause = self._pause
        try:
            if self._exchange_up():
                with self._fleet(places, gpus):
                    self._tune(name)
        except TuneError as error:
            raise UserError(f"the search was broken off, and goes on when it is run again; the reason: {error}") from error
        finally:
            self._close()
            self._stopwatch.run(False)
        self._agenda.regrouping = self._agenda.stopping = False

    def _count(self, slots: int) -> None:
        self._agenda.slots = slots

    def _looked(self, up: bool) -> None:
        """Count the budget's hours while a slot is up, and see whether GPUs have come."""
        self._stopwatch.run(up)
        resources, agenda = self._agenda.search.resources, self._agenda
        if resources.gpus == "auto" and not self._gpus and not agenda.regrouping and count_slots(resources, 1.0):
            self._say("The cluster has GPUs now: the running epochs are trained to their ends, and all goes on with a GPU each.")
            agenda.regrouping = True
            self._pause()

    def _close(self) -> None:
        self._listener.on_pause = None
        closed = self._exchange.close.remote()
        if self._ending.now:  # it may not be up, and nothing depends on its answer
            return
        with suppress(RayError, LedgerError, TimeoutError):
            ray.get(closed, timeout=ANSWER_SECONDS)
            groups = ray.get(self._exchange.groups_started.remote(), timeout=ANSWER_SECONDS)
            self._agenda.ledger.note("worker_groups_started", groups)

    def _pause(self) -> None:
        self._exchange.pause.remote()

    def _open_exchange(self, name: str, slots: int) -> ActorHandle:
        """Start the exchange beside the driver: it dies with the driver's host and with no other."""
        trials = self._agenda.search.most_trials
        proxies = slots if trials is None else min(slots, max(1, trials - len(self._agenda.trials)))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(Exchange).options(name=name, num_cpus=0, max_concurrency=1000, scheduling_strategy=here)
        return actor.remote(0, proxies)

    def _exchange_up(self) -> bool:
        """Wait for the exchange; return whether to go on. Raises UserError if Ray's workers do not start."""
        answer, began = self._exchange.is_closed.remote(), time.monotonic()
        while not ray.wait([answer], timeout=0.5)[0]:
            seconds = time.monotonic() - began
            if self._ending.now:
                return False
            if seconds > SLOW_SECONDS or (seconds > SICK_SECONDS and self._logs.faults()):
                self._ending.because_of("Ray's workers do not start")  # nothing that is asked of them is waited for
                raise UserError(
                    f"Ray's workers do not start: none is up after {seconds:.0f} s. Mend that and give the same command again; "
                    f"the last that they wrote:{self._logs.last_words()}"
                )
        ray.get(answer)
        return not self._ending.now

    def _fleet(self, places: Callable[[], int], gpus: float) -> Fleet:
        return Fleet(
            self._exchange,
            places=places,
            make=partial(self._slot, gpus),
            on_change=self._count,
            on_look=self._looked,
            on_trouble=self._ending.because_of,
            is_hurried=lambda: self._ending.now,
            logs=self._logs,
            say=self._say,
        )

    def _slot(self, gpus: float, index: int, on_given_up: Callable[[int, str], None]) -> Slot:
        return Slot(
            index,
            exchange=self._exchange,
            scaling=scaling(self._agenda.search.resources, gpus),
            scratch=self._scratch,
            arguments=self._arguments,
            on_given_up=on_given_up,
        )

    def _tune(self, exchange_name: str) -> None:
        searcher = AgendaSearcher(self._agenda, exchange_name, self._is_up, self._cancel, lambda: self._ending.now)
        try:
            tune.Tuner(
                # Proxies only wait: they ask for a little memory and no CPU, which all belongs to the slots.
                tune.with_resources(Proxy, PlacementGroupFactory([{"memory": 1_000_000}])),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=AgendaScheduler(self._agenda, searcher, self._cancel, self._write_error),
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=str(self._scratch),
                    verbose=0,
                    stop=StopWhen(self._agenda, lambda: self._ending.now, self._close_exchange),
                    # A save at a leg's end would keep its proxy busy when the next leg is suggested, for which Tune would
                    # then start a process of its own.
                    checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        finally:
            self._close_exchange()

    def _close_exchange(self) -> None:
        self._exchange.close.remote()

    def _cancel(self, number: int, epoch: float) -> None:
        self._exchange.cancel.remote(number, epoch)

    def _is_up(self) -> bool:
        """Whether the exchange answers; without it every leg is lost, through no fault of any trial's."""
        try:
            ray.get(self._exchange.groups_started.remote(), timeout=ANSWER_SECONDS)
        except (RayError, TimeoutError):
            self._ending.because_of("the exchange between slots and trials died (killed, or out of the host's memory)")
            return False
        return True

    def _write_error(self, number: int, details: str) -> None:
        write_text(self._out / "trials" / f"{number:04d}" / "error.txt", details)
