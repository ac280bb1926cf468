"""The workers that train one trial together: who has which rows of a batch, and how each sees what the others computed.

They talk through torch.distributed. Rows are parted in order and as evenly as can be; where there are fewer rows than
workers, each has all of them.
"""

import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Value = TypeVar("Value")

PATIENCE = timedelta(days=365)
"""How long workers wait for the first one's word; whether all are alive is for those to see who started them."""


IN_OTHER_WORDS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""What is in torch's plain RuntimeErrors about a talk that broke off."""


@dataclass(frozen=True)
class Ranks:
    """The workers of a trial, seen by one: it is ``rank`` of ``world``; ``control`` is the group that they use for words."""

    rank: int = 0
    world: int = 1
    control: dist.ProcessGroup | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world or (self.world > 1 and self.control is None):
            raise ValueError(f"rank {self.rank} of {self.world} workers, control group {self.control}")

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks for all."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    def parted(self, count: int) -> bool:
        """Tell whether ``count`` rows are parted among the workers; else each has all of them."""
        return self.several and count >= self.world

    def share(self, count: int) -> slice:
        """Return which of ``count`` rows are this worker's."""
        return self._share(count, self.rank) if self.parted(count) else slice(0, count)

    def extremes(self, count: int) -> tuple[int, int]:
        """Return how many of ``count`` rows that worker has that has the fewest, and that has the most."""
        if not self.parted(count):
            return count, count
        return count // self.world, -(-count // self.world)

    def gather(self, own: Tensor, count: int) -> Tensor:
        """Return the ``count`` rows of all workers in order, ``own`` (its share, ...) being this one's.

        A gradient goes back to this worker's rows alone. All workers must call it.
        """
        if not self.parted(count):
            return own
        shares = [self._share(count, rank) for rank in range(self.world)]
        longest = shares[0].stop
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(parts, padded)
        parts[self.rank] = own
        return torch.cat([part[: share.stop - share.start] for part, share in zip(parts, shares, strict=True)])

    def tell(self, value: Value) -> Value:
        """Return the first worker's ``value``; all must call it."""
        if not self.several:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def await_first(self) -> None:
        """Wait until the first worker has come here too, which writes files; all must call it."""
        self.tell(None)

    def require_alike(self, what: str, value: object) -> None:
        """Raise RuntimeError unless ``value`` is the same for all workers, which must all call it."""
        if not self.several:
            return
        values: list[object] = [None] * self.world
        dist.all_gather_object(values, value, group=self.control)
        if any(other != value for other in values):
            raise RuntimeError(f"the trial's workers do not agree on {what}: {values}")

    def least(self, value: int) -> int:
        """Return the least of all workers' values; all must call it."""
        if not self.several:
            return value
        least = torch.tensor(value)
        dist.all_reduce(least, op=dist.ReduceOp.MIN, group=self.control)
        return int(least)

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return ``network`` such that a backward pass leaves the mean over workers of its gradients in it.

        It is about what is trained now: after freezing or freeing layers, call it again. Weights that nothing depends on
        are left without a gradient, as they would be with one worker.
        """
        if not self.several:
            return network
        with warnings.catch_warnings():
            # From torch 2.13 on the option has another name, which 2.11 does not know.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(network, broadcast_buffers=False, find_unused_parameters=True)

    def _share(self, count: int, rank: int) -> slice:
        each, further = divmod(count, self.world)
        start = rank * each + min(rank, further)
        return slice(start, start + each + (rank < further))


ALONE = Ranks()
"""One worker a trial: nothing is parted, and no process group is needed."""


def joined_ranks() -> Ranks:
    """Return the workers of torch's process group, which must be up if there are several; all must call it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return ALONE
    # Of its own and on the CPU: words must not wait for a GPU, nor a wait of hours for the next trial be taken for a fault.
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(control, dist.ProcessGroup)
    return Ranks(dist.get_rank(), dist.get_world_size(), control)


def lost_another(error: BaseException) -> bool:
    """Tell whether ``error`` is only that another worker is gone, which is no fault of this one nor of the trial."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in IN_OTHER_WORDS)
