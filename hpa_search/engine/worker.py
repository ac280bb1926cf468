"""What every Ray Train worker of a slot runs: one leg after another, until the search is over.

The workers of a slot that has several take the same leg: the first one speaks with the exchange and tells the others.
"""

import gc
import logging
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle

from hpa_search.errors import UserError
from hpa_search.system_errors import OUT, lasts, message
from hpa_search.training.checkpoint import TakenOverError
from hpa_search.training.memory import FewerAtATimeError, is_out_of_memory
from hpa_search.training.ranks import ALONE, Ranks, joined_ranks, lost_another

SHORT_SECONDS = 0.05
"""Epochs that take less are handed over some at a time."""

logger = logging.getLogger(__name__)


class RunningTrial(Protocol):
    """A trial in training; each epoch in its history has a checkpoint behind it."""

    @property
    def history(self) -> Sequence[dict[str, Any]]:
        """The rows of epochs 1, 2, ..."""

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, save it, and return its metrics, among them `epoch` (from 1) and `objective`."""

    def close(self) -> None:
        """Leave nothing behind in the process."""


OpenTrial = Callable[..., RunningTrial]
"""Opens a trial of a job, as open_trial(job, number, parameters), where its checkpoint left it.

Where slots have several workers, each of these calls it with its `Ranks` as a fourth argument, and as a fifth with how many
images at a time their memory is known to hold, None if it has not run out.
"""


@dataclass(frozen=True)
class Post:
    """A worker's place: its slot at the exchange, under the name of this incarnation of the slot's ``ranks``."""

    exchange: ActorHandle
    slot: int
    incarnation: str
    ranks: Ranks = ALONE

    def take(self) -> dict[str, Any] | None:
        """Wait for a leg; None when the search is over."""
        leg = ray.get(self.exchange.take.remote(self.slot, self.incarnation)) if self.ranks.first else None
        return self.ranks.tell(leg)

    def report(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Hand over epochs, in order; return whether to go on."""
        go_on = self.ranks.first and ray.get(self.exchange.report.remote(self.slot, self.incarnation, rows))
        return self.ranks.tell(go_on)

    def fail(self, why: str, details: str) -> None:
        """Hand over a failure, which any of the workers may."""
        ray.get(self.exchange.fail.remote(self.slot, self.incarnation, why, details))

    def give_back(self) -> None:
        """Hand the leg back, to be taken up where its last checkpoint is."""
        ray.get(self.exchange.give_back.remote(self.slot, self.incarnation))

    def begin_again(self, micro_batch: int) -> None:
        """Hand the leg to the successors of all workers, who are to work on so many images at a time; any of them may."""
        ray.get(self.exchange.begin_again.remote(self.slot, self.incarnation, micro_batch))

    def halt(self, why: str) -> None:
        """Hand over what keeps every trial from going on."""
        ray.get(self.exchange.halt.remote(self.slot, self.incarnation, why))


def worker_loop(arguments: dict[str, Any]) -> None:
    """Train legs until there are no more. ``arguments``: exchange, slot, open_trial, job."""
    ranks = joined_ranks()
    post = Post(arguments["exchange"], arguments["slot"], ranks.tell(uuid.uuid4().hex), ranks)
    here = ray.get_runtime_context()
    ray.get(post.exchange.group_started.remote(post.slot, post.incarnation, here.get_node_id(), here.current_actor))
    gc.freeze()  # what is loaded by now stays, and need not be looked through after each leg
    while (leg := post.take()) is not None:
        run_leg(post, leg, arguments["open_trial"], arguments["job"])


def run_leg(post: Post, leg: dict[str, Any], open_trial: OpenTrial, job: Any) -> None:
    """Train one leg; an exception is this trial's failure, unless it leaves the device unusable for the next.

    One of several workers raises it as well: the others wait for this one, and Train replaces them all. That another worker
    died is no fault of the trial's, which goes on with their successors, and that one ran out of memory is none yet.
    """
    trial, together = None, (post.ranks, leg.get("micro_batch")) if post.ranks.several else ()
    try:
        trial = open_trial(job, leg["number"], leg["parameters"], *together)
        _train(post, leg, trial)
    except Exception as error:
        unusable, several = _poisons_device(error), post.ranks.several
        if not is_out_of_memory(error) and (unusable or (several and lost_another(error))):
            raise
        if isinstance(error, TakenOverError):
            logger.warning("trial %s is given back: %s", leg["number"], error)
            post.give_back()
        elif isinstance(error, FewerAtATimeError):
            logger.warning("trial %s: %s", leg["number"], error)
            post.begin_again(error.images)
        elif _is_no_trials_fault(error):
            post.halt(str(error) if isinstance(error, UserError) else message(error, option=OUT))
        else:
            post.fail(_in_words(error), traceback.format_exc())
        if unusable or several:
            raise
    finally:
        if trial is not None:
            trial.close()
        del trial
        gc.collect()


def _train(post: Post, leg: dict[str, Any], trial: RunningTrial) -> None:
    """Report what the checkpoint holds and the ledger does not, then train to the target."""
    rows, reported = list(trial.history[leg["reported"] : leg["target"]]), time.monotonic()
    if rows and not post.report(rows):
        return
    rows = []
    while len(trial.history) < leg["target"]:
        try:
            rows.append(trial.run_epoch())
        except Exception:
            if rows:
                post.report(rows)
            raise
        now = time.monotonic()
        # Epochs so short are handed over some at a time. Several workers must not differ in what they take for short.
        if post.ranks.several or now - reported > SHORT_SECONDS or len(trial.history) >= leg["target"]:
            if not post.report(rows):
                return
            rows, reported = [], now


def _in_words(error: Exception) -> str:
    kind = "out of memory" if is_out_of_memory(error) else type(error).__name__
    return f"{kind}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _is_no_trials_fault(error: Exception) -> bool:
    """What a user is to mend, such as a store that refuses, and a disk that is full or broken, meet the next trial too."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and lasts(error))


def _poisons_device(error: Exception) -> bool:
    """After a CUDA error that is no OutOfMemoryError, every later call of the process may fail: Train replaces the worker."""
    return type(error).__name__ != "OutOfMemoryError" and ("CUDA error" in str(error) or "device-side assert" in str(error))
