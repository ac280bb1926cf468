"""The loss and the gradients of one batch: at once, in parts if memory is short, or by several workers.

In parts, there are two passes, for any loss. The first pass computes the logits of all parts and keeps nothing else. The
whole batch's loss then gives the gradient at each logit. The second pass computes each part again, and runs backward from the
gradient at the part's logits. The sum over the parts is the gradient of the whole batch. A weighted sum of the parts' losses
would be wrong for a loss that is not a mean over rows (soft F1). The second forward pass costs about a third of a step's
time. Only trials that run out of memory pay it.

Both passes draw the same dropout. Batch norms normalise each part by itself, alike in both passes. They count each part into
their running statistics once.

Each of several workers computes the whole batch's loss from all workers' logits. It runs backward from its own rows' logits.
The sum over the workers is the gradient of that loss, for any loss. All workers cut their shares into equally many parts.
They work on each part together.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hpa_search.training.batch_norm import WholeBatch
from hpa_search.training.device import Device
from hpa_search.training.losses import Loss
from hpa_search.training.memory import MicroBatch
from hpa_search.training.ranks import ALONE, Ranks

TWO_NEEDED = "memory does not hold 2 images at a time, and the network's batch norm cannot work on 1; choose smaller images"


@dataclass(frozen=True)
class Rows:
    """A step's ``batch`` rows: shared among the workers, each of which works on at most ``size`` at a time."""

    batch: int
    size: int
    ranks: Ranks = ALONE

    @property
    def weight(self) -> int:
        """The factor of each gradient. DistributedDataParallel averages over workers, but shared rows need the sum."""
        return self.ranks.world if self.ranks.parted(self.batch) else 1

    @property
    def parts(self) -> int:
        """The number of parts that each worker cuts its share into.

        Batch norms may need two images. With ``size`` 2, three images are therefore one part. Across several workers one
        image of each is enough. With ``size`` 1, a worker whose share has one image more than the others' puts two into a
        part.
        """
        fewest, most = self.ranks.share_sizes(self.batch)
        least = 1 if self.size == 1 or self.ranks.parted(self.batch) else 2
        return min(-(-most // self.size), max(1, fewest // least))

    def gather(self, own: Tensor) -> Tensor:
        """Return the rows of all workers."""
        return self.ranks.gather(own, self.batch)

    def whole_norms(self) -> AbstractContextManager[object]:
        """Return the context in which a batch norm sees the current part of all workers."""
        return WholeBatch() if self.ranks.parted(self.batch) else nullcontext()


def backward(network: nn.Module, images: Tensor, labels: Tensor, loss_of: Loss, device: Device, rows: Rows) -> Tensor:
    """Leave the gradients of a batch's loss in ``network``, in place of old ones. Return the loss, still on the device.

    ``images`` (b, c, s, s) and ``labels`` (b, k) are this worker's share of the ``rows``. Several workers must all call this,
    with a ``network`` from `Ranks.parallel`; the gradients are then those of all. Raises MemoryError if a batch norm would
    have to work on a single image.
    """
    if rows.parts > 1:
        try:
            return _in_parts(network, images, labels, loss_of, device, rows)
        except ValueError as error:
            if rows.size > 1 or "more than 1 value per channel" not in str(error):
                raise
            if not rows.ranks.several:
                raise MemoryError(TWO_NEEDED) from error
        # With fewer rows than workers, each worker has all rows, and its norms do not see the others'.
        return backward(network, images, labels, loss_of, device, replace(rows, size=2))
    logits = _logits(network, images, device, rows)
    loss = loss_of(rows.gather(logits), rows.gather(labels))
    network.zero_grad(set_to_none=True)
    (loss * rows.weight).backward()
    return loss.detach()


def predict(network: nn.Module, images: Tensor, device: Device, portion: MicroBatch) -> Tensor:
    """Return the logits (b, k), float32, of ``images``, without gradients, ``portion`` at a time."""

    def work(size: int) -> Tensor:
        with torch.no_grad(), device.autocast():
            return torch.cat([network(part).float() for part in images.split(size)])

    return portion.fit(len(images), work)


def _in_parts(network: nn.Module, images: Tensor, labels: Tensor, loss_of: Loss, device: Device, rows: Rows) -> Tensor:
    """Do the work of `backward` in two passes over the parts."""
    network.zero_grad(set_to_none=True)
    cut = images.tensor_split(rows.parts)
    with torch.no_grad(), _as_it_was(network, device.device):
        logits = torch.cat([_logits(network, part, device, rows) for part in cut])
    loss = loss_of(rows.gather(logits.requires_grad_()), rows.gather(labels))
    (gradient,) = torch.autograd.grad(loss * rows.weight, logits)
    for index, (part, of_part) in enumerate(zip(cut, gradient.tensor_split(rows.parts), strict=True)):
        with _not_averaged(network) if index < rows.parts - 1 else nullcontext():
            _logits(network, part, device, rows).backward(of_part)
    return loss.detach()


def _logits(network: nn.Module, images: Tensor, device: Device, rows: Rows) -> Tensor:
    with rows.whole_norms(), device.autocast():
        logits: Tensor = network(images)
    return logits.float()


def _not_averaged(network: nn.Module) -> AbstractContextManager[object]:
    """Return the context that keeps this worker's gradients of a `Ranks.parallel` ``network`` without averaging them."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


@contextmanager
def _as_it_was(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Undo, at the end, what the first pass drew from the generators and changed in running statistics."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
