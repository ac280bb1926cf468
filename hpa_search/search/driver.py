"""The driver: takes the lease, brings up Ray, slots and Tune, and runs the agenda to its end."""

import logging
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune import PlacementGroupFactory, TuneError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpa_search.errors import UserError
from hpa_search.files import write_text
from hpa_search.search import lease
from hpa_search.search.agenda import Agenda, Watcher
from hpa_search.search.engine import AgendaScheduler, AgendaSearcher, StopWhen
from hpa_search.search.exchange import Exchange
from hpa_search.search.proxy import Proxy
from hpa_search.search.slot import SLOT_THREAD, Slot, count_slots, gpus_per_worker, in_words, scaling
from hpa_search.search.space import Search
from hpa_search.search.status import FINISHED
from hpa_search.search.worker import OpenTrial

SCRATCH = ".scratch"
CLOSING_SECONDS = 40.0
"""How long slots may take to end; one whose workers are just being replaced needs the longest."""
ANSWER_SECONDS = 30.0


def run_search(
    search: Search,
    out: Path,
    *,
    open_trial: OpenTrial,
    job: Any,
    ray_address: str | None = None,
    watchers: tuple[Watcher, ...] = (),
    say: Callable[[str], None] = print,
) -> bool:
    """Run the search in ``out``, from wherever its ledger is, and return whether it is finished (else it was stopped).

    ``open_trial(job, number, parameters)`` opens a trial in a worker. ``ray_address`` names a Ray to join; without one
    a local Ray is started and ended. Raises UserError while another driver holds the search, and when no slot can run.
    """
    stop = threading.Event()
    held = lease.take(out, f"{search.name}-{uuid.uuid4().hex[:8]}", on_lost=stop.set, say=say)
    try:
        agenda = Agenda(search, held.ledger, slots=1, spent_seconds=lambda: held.spent_seconds, watchers=watchers)
        if agenda.finished:
            return _conclude(agenda)
        if agenda.ledger.noted().get(FINISHED):  # more was added to it
            agenda.ledger.note(FINISHED, False)
        with ray_up(ray_address), _signals(stop):
            _Run(agenda, out, open_trial, job, stop, say).to_the_end()
            return _conclude(agenda)
    finally:
        held.release()


def _conclude(agenda: Agenda) -> bool:
    """Close the ledger of a search that is finished; return whether it is."""
    if agenda.finished:
        agenda.close()
        agenda.ledger.note(FINISHED, True)
    return agenda.finished


class _Run:
    """One stay of a driver on one Ray."""

    def __init__(
        self, agenda: Agenda, out: Path, open_trial: OpenTrial, job: Any, stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        self._agenda, self._out, self._stop, self._say = agenda, out, stop, say
        self._arguments = {"open_trial": open_trial, "job": job}
        self._broken_off: str | None = None
        self._scratch = out.resolve() / SCRATCH / uuid.uuid4().hex[:8]

    def to_the_end(self) -> None:
        resources = self._agenda.search.resources
        gpus = gpus_per_worker(resources)
        self._agenda.slots = count_slots(resources, gpus)
        self._say(f"{self._agenda.slots} slot(s), {in_words(resources, gpus)}.")
        name = f"exchange-{uuid.uuid4().hex[:8]}"
        self._exchange = self._open_exchange(name)
        slots = [self._slot(index, gpus) for index in range(self._agenda.slots)]
        try:
            self._tune(name)
        except TuneError as error:
            raise UserError(f"the search was broken off, and goes on when it is run again; the reason: {error}") from error
        finally:
            self._close(slots)
        if why := self._broken_off or self._agenda.broken:
            raise UserError(
                f"the search was broken off: {why}. Mend that and run it again; see {self._out / 'trials'}/*/error.txt"
            )

    def _close(self, slots: list[Slot]) -> None:
        with suppress(RayError):
            self._agenda.ledger.note("worker_groups_started", ray.get(self._exchange.groups_started.remote()))
            ray.get(self._exchange.close.remote())
        deadline = time.monotonic() + CLOSING_SECONDS
        for slot in slots:
            slot.close(max(deadline - time.monotonic(), 0))
        shutil.rmtree(self._scratch, ignore_errors=True)
        with suppress(OSError):  # another driver's is there
            self._scratch.parent.rmdir()

    def _open_exchange(self, name: str) -> ActorHandle:
        """Start the exchange beside the driver: it dies with the driver's host and with no other."""
        trials, slots = self._agenda.search.most_trials, self._agenda.slots
        proxies = slots if trials is None else min(slots, max(1, trials - len(self._agenda.trials)))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(Exchange).options(name=name, num_cpus=0, max_concurrency=1000, scheduling_strategy=here)
        return actor.remote(slots, proxies)

    def _slot(self, index: int, gpus: float) -> Slot:
        return Slot(
            index,
            exchange=self._exchange,
            scaling=scaling(self._agenda.search.resources, gpus),
            scratch=self._scratch,
            arguments=self._arguments,
            on_given_up=self._give_up,
        )

    def _give_up(self, index: int, why: str) -> None:
        self._say(f"Slot {index} is given up: {why}")
        if ray.get(self._exchange.lose_slot.remote(index)) == 0:
            self._broken_off = f"no slot could be kept running, the last one because: {why}"
            self._stop.set()

    def _tune(self, exchange_name: str) -> None:
        searcher = AgendaSearcher(self._agenda, exchange_name, self._is_up)
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
                stop=StopWhen(self._agenda, self._stop, self._close_exchange),
            ),
        ).fit()

    def _close_exchange(self) -> None:
        self._exchange.close.remote()

    def _cancel(self, number: int) -> None:
        self._exchange.cancel.remote(number)

    def _is_up(self) -> bool:
        """Whether the exchange answers; without it every leg is lost, through no fault of any trial's."""
        try:
            ray.get(self._exchange.groups_started.remote(), timeout=ANSWER_SECONDS)
        except (RayError, TimeoutError):
            self._broken_off = "the exchange between slots and trials died (killed, or out of the host's memory)"
            self._stop.set()
            return False
        return True

    def _write_error(self, number: int, details: str) -> None:
        write_text(self._out / "trials" / f"{number:04d}" / "error.txt", details)


@contextmanager
def ray_up(address: str | None) -> Iterator[None]:
    """Join a Ray, or start a local one, for the searches that run within; end what was started here.

    Where one is up already, that is the one. Raises UserError if none can be reached or started.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", str(10**9))
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000")
    # Tune's own tables would stand among ours; its older reporter is the one that can be silenced.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # A slot is several processes; Ray warns when more than one a core start at a time.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "64")
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Train asks the dashboard before it frees resources, so a local one stays on.
    own = {"address": "local", "include_dashboard": True} if address is None else {"address": address}
    try:
        ray.init(**own, log_to_driver=False, logging_level=logging.ERROR)
    except (ValueError, ConnectionError, RuntimeError, TimeoutError) as error:
        raise UserError(f"--ray {address or '(none)'}: no Ray could be reached or started: {error}") from None
    try:
        yield
    finally:
        # A thread that is still in a call to Ray would take the whole process with it, and the final stage is to come:
        # then Ray ends with the process.
        if not any(thread.name.startswith(SLOT_THREAD) for thread in threading.enumerate()):
            ray.shutdown()


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Take the first Ctrl-C or SIGTERM as a wish to stop; a second one ends the process as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        stop.set()
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
