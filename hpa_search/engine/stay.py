"""One stay of a driver on a Ray, from the first leg to the last.

A stay owns a mailbox, a fleet of slots, and a Tune experiment. A driver stays again if it changes to slots of another kind, or
if the search is extended while the slots close.
"""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune import CheckpointConfig, PlacementGroupFactory, TuneError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpa_search.engine.entry import packed
from hpa_search.engine.fleet import Fleet, wait_for_places
from hpa_search.engine.mailbox import Mailbox
from hpa_search.engine.proxy import Proxy
from hpa_search.engine.ray_logs import RayLogs
from hpa_search.engine.slot import Slot, SlotOwner, count_slots, gpus_per_worker, in_words, scaling
from hpa_search.engine.tune_adapter import ANSWER_SECONDS, AgendaScheduler, AgendaSearcher, Legs, StopWhenOver
from hpa_search.engine.worker import Trials, worker_loop
from hpa_search.errors import UserError
from hpa_search.ledger.ledger import LedgerError
from hpa_search.ledger.stopwatch import Stopwatch
from hpa_search.search.agenda import Agenda

SLOW_SECONDS = 300.0
"""A Ray worker that has not come up after so long never will."""
SICK_SECONDS = 40.0
"""The same where it has left a Python error in the log: it dies while it imports."""
GPUS = "gpus"
"""The ledger's note that the search has trained on GPUs because its cluster has some."""


class Stay:
    """Runs ``agenda`` on the Ray that is up; Tune's and Train's own files go to ``scratch``.

    It owns the fleet, whose thread asks it for places and slots (`FleetOwner`).
    """

    def __init__(
        self,
        agenda: Agenda,
        out: Path,
        scratch: Path,
        trials: Trials,
        stopwatch: Stopwatch,
        say: Callable[[str], None],
    ) -> None:
        self._agenda, self._out, self._scratch, self._trials = agenda, out, scratch, trials
        self._stopwatch, self._say = stopwatch, say
        self._life, self._resources = agenda.life, agenda.search.resources
        self._logs, self._gpus = RayLogs(scratch), 0.0

    def run(self, *, joined: bool) -> None:
        """Train until no leg is left, the driver is to end, or the slots are to change to GPUs.

        In a ``joined`` cluster, wait for nodes that hold a slot. Raises UserError if Ray's workers do not start.
        """
        ledger = self._agenda.ledger
        # A cluster's nodes may come one after the other: a search that has trained on GPUs waits for theirs.
        needed = joined and bool(ledger.noted().get(GPUS))

        def gpus_now() -> float:
            return gpus_per_worker(self._resources, needed=needed)

        if not wait_for_places(
            lambda: count_slots(self._resources, gpus_now()),
            lambda: in_words(self._resources, gpus_now()),
            may_come=joined,
            life=self._life,
            say=self._say,
        ):
            return
        self._gpus = gpus_now()
        if joined and self._gpus and self._resources.gpus == "auto":
            ledger.note(GPUS, True)
        self._say(f"{self.places()} slot(s), {in_words(self._resources, self._gpus)}.")
        name = f"mailbox-{uuid.uuid4().hex[:8]}"
        self._mailbox = self._open_mailbox(name)
        try:
            if self._mailbox_is_up():
                with Fleet(self._mailbox, self, life=self._life, logs=self._logs, say=self._say):
                    self._tune(name)
        except TuneError as error:
            raise UserError(f"the search was broken off; run it again to resume it. The reason: {error}") from error
        finally:
            self._close()
            self._stopwatch.run(False)

    def places(self) -> int:
        """Return how many slots the cluster's nodes hold now."""
        return count_slots(self._resources, self._gpus)

    def make_slot(self, index: int, owner: SlotOwner) -> Slot:
        """Start a slot."""
        return Slot(
            index,
            owner,
            mailbox=self._mailbox,
            scaling=scaling(self._resources, self._gpus),
            scratch=self._scratch,
            work=packed(partial(worker_loop, gpus=self._gpus), self._trials),
        )

    def slots_changed(self, count: int) -> None:
        """Let ``count`` legs run at a time."""
        self._agenda.slots = count

    def looked(self, *, is_up: bool) -> None:
        """Count the budget's hours while a slot is up, and change the slots if GPUs have come."""
        self._stopwatch.run(is_up)
        if self._resources.gpus == "auto" and not self._gpus and self._life.legs_may_begin and count_slots(self._resources, 1.0):
            self._say("The cluster has GPUs now: the running epochs end, and the trials resume with a GPU each.")
            self._life.change_slots()

    def _open_mailbox(self, name: str) -> ActorHandle:
        """Start the mailbox beside the driver: it dies with the driver's host and with no other."""
        trials, slots = self._agenda.search.most_trials, self.places()
        proxies = slots if trials is None else min(slots, max(1, trials - len(self._agenda.trials)))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(Mailbox).options(name=name, num_cpus=0, max_concurrency=1000, scheduling_strategy=here)
        return actor.remote(0, proxies)

    def _mailbox_is_up(self) -> bool:
        """Wait for the mailbox; return False if the driver is to end first. Raises UserError if Ray's workers do not start."""
        answer, began = self._mailbox.is_closed.remote(), time.monotonic()
        while not ray.wait([answer], timeout=0.5)[0]:
            seconds = time.monotonic() - began
            if self._life.is_ending:
                return False
            if seconds > SLOW_SECONDS or (seconds > SICK_SECONDS and self._logs.faults()):
                self._life.break_off("Ray's workers do not start")  # so that nothing waits for them
                raise UserError(
                    f"Ray's workers do not start: none is up after {seconds:.0f} s. Mend that and give the same command again; "
                    f"the end of their log:{self._logs.last_words()}"
                )
        ray.get(answer)
        return not self._life.is_ending

    def _tune(self, mailbox_name: str) -> None:
        legs = Legs(self._agenda, self._mailbox, self._out)
        try:
            tune.Tuner(
                # Proxies only wait: they ask for a little memory and leave the CPUs to the slots.
                tune.with_resources(Proxy, PlacementGroupFactory([{"memory": 1_000_000}])),
                tune_config=tune.TuneConfig(
                    search_alg=AgendaSearcher(legs, mailbox_name),
                    scheduler=AgendaScheduler(legs),
                    num_samples=-1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=str(self._scratch),
                    verbose=0,
                    stop=StopWhenOver(legs),
                    # A save at a leg's end would keep its proxy busy when the next leg is suggested. Tune would then start
                    # another process.
                    checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        finally:
            self._mailbox.close.remote()

    def _close(self) -> None:
        closed = self._mailbox.close.remote()
        if self._life.is_ending:  # the mailbox may not be up, and nothing depends on its answer
            return
        with suppress(RayError, LedgerError, TimeoutError):
            ray.get(closed, timeout=ANSWER_SECONDS)
            groups = ray.get(self._mailbox.groups_started.remote(), timeout=ANSWER_SECONDS)
            self._agenda.ledger.note("worker_groups_started", groups)
