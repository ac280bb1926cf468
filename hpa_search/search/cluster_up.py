"""The Ray that a driver works on: joined, or started here and ended afterwards."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from hpa_search.errors import UserError
from hpa_search.search.slot import SLOT_THREAD


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
    # A process for each slot that nobody asks: hosts that go are looked for by the fleet.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
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
