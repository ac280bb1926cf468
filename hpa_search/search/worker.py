"""What every Ray Train worker of a slot runs: one leg after another, until the search is over."""

import errno
import gc
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle

from hpa_search.storage.patience import Unreachable
from hpa_search.training.stored_trial import TakenOverError

_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}


class RunningTrial(Protocol):
    """A trial in training; each epoch in its history has a checkpoint behind it."""

    @property
    def history(self) -> Sequence[dict[str, Any]]:
        """The rows of epochs 1, 2, ..."""

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, save it, and return its metrics, among them `epoch` (from 1) and `objective`."""

    def close(self) -> None:
        """Leave nothing behind in the process."""


OpenTrial = Callable[[Any, int, dict[str, Any]], RunningTrial]
"""Opens a trial of a job by its number and parameters, where its checkpoint left it."""


@dataclass(frozen=True)
class Post:
    """A worker's place: its slot at the exchange, under the name of this incarnation."""

    exchange: ActorHandle
    slot: int
    incarnation: str

    def take(self) -> dict[str, Any] | None:
        """Wait for a leg; None when the search is over."""
        return ray.get(self.exchange.take.remote(self.slot, self.incarnation))

    def report(self, row: dict[str, Any]) -> bool:
        """Hand over an epoch; return whether to go on."""
        return ray.get(self.exchange.report.remote(self.slot, self.incarnation, row))

    def fail(self, why: str, details: str) -> None:
        """Hand over a failure."""
        ray.get(self.exchange.fail.remote(self.slot, self.incarnation, why, details))

    def give_back(self) -> None:
        """Hand the leg back, to be taken up where its last checkpoint is."""
        ray.get(self.exchange.give_back.remote(self.slot, self.incarnation))

    def halt(self, why: str) -> None:
        """Hand over what keeps every trial from going on."""
        ray.get(self.exchange.halt.remote(self.slot, self.incarnation, why))


def worker_loop(arguments: dict[str, Any]) -> None:
    """Train legs until there are no more. ``arguments``: exchange, slot, open_trial, job."""
    post = Post(arguments["exchange"], arguments["slot"], uuid.uuid4().hex)
    ray.get(post.exchange.group_started.remote(post.slot, (ray.get_runtime_context().get_node_id(),)))
    while (leg := post.take()) is not None:
        run_leg(post, leg, arguments["open_trial"], arguments["job"])


def run_leg(post: Post, leg: dict[str, Any], open_trial: OpenTrial, job: Any) -> None:
    """Train one leg; an exception is this trial's failure, unless it leaves the device unusable for the next."""
    trial = None
    try:
        trial = open_trial(job, leg["number"], leg["parameters"])
        _train(post, leg, trial)
    except Exception as error:
        if _poisons_device(error):
            raise
        if isinstance(error, TakenOverError):
            post.give_back()
        elif _is_no_trials_fault(error):
            post.halt(str(error))
        else:
            post.fail(_in_words(error), traceback.format_exc())
    finally:
        if trial is not None:
            trial.close()
        del trial
        gc.collect()


def _train(post: Post, leg: dict[str, Any], trial: RunningTrial) -> None:
    """Report what the checkpoint holds and the ledger does not, then train to the target."""
    for row in trial.history[leg["reported"] : leg["target"]]:
        if not post.report(row):
            return
    while len(trial.history) < leg["target"] and post.report(trial.run_epoch()):
        pass


def _in_words(error: Exception) -> str:
    kind = (
        "out of memory" if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" else type(error).__name__
    )
    return f"{kind}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _is_no_trials_fault(error: Exception) -> bool:
    """A disk that is full or broken, and a server that stays away, meet the next trial too."""
    return isinstance(error, Unreachable) or (isinstance(error, OSError) and error.errno in _DISK_FAULTS)


def _poisons_device(error: Exception) -> bool:
    """After a CUDA error other than out of memory, every later call of the process fails too: Train replaces the worker."""
    return type(error).__name__ != "OutOfMemoryError" and ("CUDA error" in str(error) or "device-side assert" in str(error))
