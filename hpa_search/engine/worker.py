"""What every Ray Train worker of a slot runs: leg after leg, until the search is over.

The workers of a slot that has several take the same leg. The first of them talks to the mailbox and shares the answer.
"""

import gc
import logging
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle

from hpa_search.errors import UserError
from hpa_search.search.leg import EpochReport, Failed, Halted, Leg, LegEnd, Released
from hpa_search.system_errors import OUT, lasts, message
from hpa_search.training.checkpoint import TakenOverError
from hpa_search.training.device import limit_memory
from hpa_search.training.memory import FewerAtATimeError, is_out_of_memory
from hpa_search.training.ranks import ALONE, Ranks, joined_ranks, lost_another

logger = logging.getLogger(__name__)


class RunningTrial(Protocol):
    """A trial in training; each epoch in its history has a checkpoint behind it."""

    @property
    def history(self) -> Sequence[dict[str, Any]]:
        """The metrics of epochs 1, 2, ..."""

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, save it, and return its metrics, among them `epoch` (from 1) and `objective`."""

    def close(self) -> None:
        """Leave nothing behind in the process."""


OpenTrial = Callable[..., RunningTrial]
"""Opens a trial at its last checkpoint: open_trial(job, number, parameters).

Where slots have several workers, each worker adds its `Ranks` as a fourth argument. The fifth is the number of images that
its memory is known to hold at a time, None if memory has not run out.
"""


@dataclass(frozen=True)
class Trials:
    """How workers open trials: ``open_trial`` is called with ``job``; both are pickled."""

    open_trial: OpenTrial
    job: Any


@dataclass(frozen=True)
class Post:
    """A worker's address at the mailbox: its slot, and the incarnation of the slot's ``ranks``."""

    mailbox: ActorHandle
    slot: int
    incarnation: str
    ranks: Ranks = ALONE

    def take(self) -> Leg | None:
        """Wait for a leg; return None when the search is over."""
        leg = ray.get(self.mailbox.take.remote(self.slot, self.incarnation)) if self.ranks.first else None
        return self.ranks.tell(leg)

    def report(self, *reports: EpochReport) -> bool:
        """Hand over epochs, in order; return whether to train on."""
        goes_on = self.ranks.first and ray.get(self.mailbox.report.remote(self.slot, self.incarnation, reports))
        return self.ranks.tell(goes_on)

    def end(self, how: LegEnd) -> None:
        """End the leg; any of the workers may."""
        ray.get(self.mailbox.end.remote(self.slot, self.incarnation, how))

    def begin_again(self, micro_batch: int) -> None:
        """Hand the leg to the successors of all workers, with ``micro_batch`` images at a time. Any worker may call this."""
        ray.get(self.mailbox.begin_again.remote(self.slot, self.incarnation, micro_batch))


def worker_loop(mailbox: ActorHandle, slot: int, trials: Trials, *, gpus: float = 0.0) -> None:
    """Train legs until there are no more. A worker with a share of a GPU, ``gpus`` below 1, takes no more of its memory."""
    limit_memory(gpus)
    ranks = joined_ranks()
    post = Post(mailbox, slot, ranks.tell(uuid.uuid4().hex), ranks)
    here = ray.get_runtime_context()
    ray.get(post.mailbox.group_started.remote(post.slot, post.incarnation, here.get_node_id(), here.current_actor))
    gc.freeze()  # what is loaded by now stays: spare it the collections after each leg
    while True:
        freed = time.monotonic()
        if (leg := post.take()) is None:
            return
        run_leg(post, leg, trials, waited=time.monotonic() - freed)


def run_leg(post: Post, leg: Leg, trials: Trials, *, waited: float = 0.0) -> None:
    """Train one leg, for which the worker has ``waited`` so many seconds.

    An exception is the trial's failure, and the worker takes the next leg.

    Some exceptions are raised as well, and Ray Train then replaces all workers of the slot. One kind is an error of CUDA's
    that spoils the device. The other is any exception in one of several workers, because the others wait for it. If another
    worker died, the trial resumes with the successors. If memory ran out, they train fewer images at a time.
    """
    trial, together = None, (post.ranks, leg.micro_batch) if post.ranks.several else ()
    began = time.monotonic()
    try:
        trial = trials.open_trial(trials.job, leg.number, leg.parameters, *together)
        _train(post, leg, trial, {"waiting_seconds": waited, "start_seconds": time.monotonic() - began})
    except Exception as error:
        unusable, several = _poisons_device(error), post.ranks.several
        if not is_out_of_memory(error) and (unusable or (several and lost_another(error))):
            raise
        if isinstance(error, FewerAtATimeError):
            logger.warning("trial %s: %s", leg.number, error)
            post.begin_again(error.images)
        else:
            post.end(_how(leg, error))
        if unusable or several:
            raise
    finally:
        if trial is not None:
            trial.close()
        del trial
        gc.collect()


def _train(post: Post, leg: Leg, trial: RunningTrial, before: Mapping[str, float]) -> None:
    """Report the epochs of the checkpoint that the ledger lacks, then train to the target.

    The first epoch that is trained also tells what went ``before`` it.
    """
    known = [EpochReport.of(metrics) for metrics in trial.history[leg.reported : leg.target]]
    if known and not post.report(*known):
        return
    while len(trial.history) < leg.target:
        if not post.report(EpochReport.of({**trial.run_epoch(), **before})):
            return
        before = {}


def _how(leg: Leg, error: Exception) -> LegEnd:
    """Return how a leg ends after ``error``."""
    if isinstance(error, TakenOverError):
        logger.warning("trial %s is released: %s", leg.number, error)
        return Released()
    # A store that refuses, or a disk that is full or broken, fails the next trial too.
    if isinstance(error, UserError):
        return Halted(str(error))
    if isinstance(error, OSError) and lasts(error):
        return Halted(message(error, option=OUT))
    kind = "out of memory" if is_out_of_memory(error) else type(error).__name__
    first_line = str(error).splitlines()[0] if str(error) else "no message"
    return Failed(f"{kind}: {first_line}", traceback.format_exc())


def _poisons_device(error: Exception) -> bool:
    """Return whether every later call in the process may fail: after any error of CUDA's but OutOfMemoryError."""
    return type(error).__name__ != "OutOfMemoryError" and ("CUDA error" in str(error) or "device-side assert" in str(error))
