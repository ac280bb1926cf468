"""The workers that train one trial together: the rows of each, and how they exchange results.

They communicate through torch.distributed. Rows are shared in order, as evenly as possible. With fewer rows than workers,
each worker has all rows.
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

CONTROL_TIMEOUT = timedelta(days=365)
"""How long workers wait for the first one's message. Whoever started them watches whether all are alive."""

IN_OTHER_WORDS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""Words in torch's plain RuntimeErrors about a lost connection."""


@dataclass(frozen=True)
class Ranks:
    """The workers of a trial as one of them sees them: it is worker ``rank`` of ``world``.

    ``control`` is the group through which they exchange messages. Raises ValueError if these do not fit together.
    """

    rank: int = 0
    world: int = 1
    control: dist.ProcessGroup | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world or (self.world > 1 and self.control is None):
            raise ValueError(f"rank {self.rank} of {self.world} workers, control group {self.control}")

    @property
    def first(self) -> bool:
        """Whether this worker writes the files and speaks for all."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are other workers."""
        return self.world > 1

    def parted(self, count: int) -> bool:
        """Return whether ``count`` rows are shared among the workers. If not, each worker has all of them."""
        return self.several and count >= self.world

    def share(self, count: int) -> slice:
        """Return which of ``count`` rows are this worker's."""
        return self._share(count, self.rank) if self.parted(count) else slice(0, count)

    def share_sizes(self, count: int) -> tuple[int, int]:
        """Return the smallest and the largest share of ``count`` rows."""
        if not self.parted(count):
            return count, count
        return count // self.world, -(-count // self.world)

    def gather(self, own: Tensor, count: int) -> Tensor:
        """Return the ``count`` rows of all workers in order. ``own`` (its share, ...) holds this worker's.

        Gradients flow back to this worker's rows only. All workers must call it.
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
        """Return the first worker's ``value``. All workers must call it."""
        if not self.several:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def await_first(self) -> None:
        """Wait for the first worker, which writes the files, to arrive here too. All workers must call it."""
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
        """Return the least of all workers' values. All workers must call it."""
        if not self.several:
            return value
        least = torch.tensor(value)
        dist.all_reduce(least, op=dist.ReduceOp.MIN, group=self.control)
        return int(least)

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return ``network`` wrapped: a backward pass leaves the mean of all workers' gradients in it.

        The wrapper covers the weights that train now. Call this again after freezing or freeing layers. Weights that nothing
        depends on get no gradient, as with one worker.
        """
        if not self.several:
            return network
        with warnings.catch_warnings():
            # torch 2.13 renames this option and warns about the old name; 2.11 knows only the old name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(network, broadcast_buffers=False, find_unused_parameters=True)

    def _share(self, count: int, rank: int) -> slice:
        each, further = divmod(count, self.world)
        start = rank * each + min(rank, further)
        return slice(start, start + each + (rank < further))


ALONE = Ranks()
"""One worker a trial: no rows are shared, and no process group is needed."""


def joined_ranks() -> Ranks:
    """Return the workers of torch's process group, which must be up if there are several. All must call it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return ALONE
    # A group of its own on the CPU: messages must not wait for a GPU, and hours between trials must not time out.
    control = dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
    assert isinstance(control, dist.ProcessGroup)
    return Ranks(dist.get_rank(), dist.get_world_size(), control)


def lost_another(error: BaseException) -> bool:
    """Return whether ``error`` only says that another worker is gone: neither this worker nor the trial is at fault."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in IN_OTHER_WORDS)
