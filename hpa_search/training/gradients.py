"""The loss and the gradients of one batch: at once, part by part where memory does not hold it, or by several workers.

Part by part there are two passes, whatever the loss. The first computes the logits of all parts and keeps nothing else;
of them and the whole batch's loss, be it a mean over rows or not (soft F1), comes the gradient at each logit. The second
computes each part again, now with what the backward pass needs, and goes back from its logits' share of that gradient. The
sum over the parts is the gradient of the whole batch. A loss need not know of it, and summing losses of parts, weighted by
their rows, would not do for one that is no mean over rows. The price is a second forward pass, about a third of a step's
time, paid only by trials that run out of memory.

Both passes draw the same for dropout. Batch norms normalise each part by itself, alike in both passes, and count every
part into their running statistics, once.

Of several workers each computes the loss of the whole batch from the logits of all, and goes back from its own rows' logits:
the sum over workers is the gradient of that loss, whatever it is. They cut their shares into equally many parts, and a part is
then what all of them work on at a time.
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
from hpa_search.training.memory import Portion
from hpa_search.training.ranks import ALONE, Ranks

TWO_NEEDED = "memory does not hold 2 images at a time, and the network's batch norm cannot work on 1"


@dataclass(frozen=True)
class Rows:
    """How the ``batch`` rows of a step are worked on: parted among the workers, and at most ``size`` at a time by each."""

    batch: int
    size: int
    ranks: Ranks = ALONE

    @property
    def weight(self) -> int:
        """By what a gradient is multiplied because the workers' are averaged: of parts it is their sum that counts."""
        return self.ranks.world if self.ranks.parted(self.batch) else 1

    @property
    def parts(self) -> int:
        """Into how many parts each worker cuts its share.

        Batch norms may need two images: three are one part if ``size`` is 2. That of several workers may be one for each, and
        is two for those whose shares are one image larger than the others', if ``size`` is 1.
        """
        fewest, most = self.ranks.extremes(self.batch)
        least = 1 if self.size == 1 or self.ranks.parted(self.batch) else 2
        return min(-(-most // self.size), max(1, fewest // least))

    def gather(self, own: Tensor) -> Tensor:
        """Return the rows of all workers."""
        return self.ranks.gather(own, self.batch)

    def whole_norms(self) -> AbstractContextManager[object]:
        """Return the context in which batch norms see what all workers work on at a time."""
        return WholeBatch() if self.ranks.parted(self.batch) else nullcontext()


def backward(network: nn.Module, images: Tensor, labels: Tensor, loss_of: Loss, device: Device, rows: Rows) -> Tensor:
    """Put the gradients of a batch's loss into ``network``, in place of those there; return the loss, still on the device.

    ``images`` (b, c, s, s) and ``labels`` (b, k) are this worker's share of the ``rows``. Where there are several workers, all
    must call this, ``network`` is `Ranks.parallel`'s, and the gradients are those of all.
    Raises MemoryError where a batch norm would have to work on a single image.
    """
    if rows.parts > 1:
        try:
            return _in_parts(network, images, labels, loss_of, device, rows)
        except ValueError as error:
            if rows.size > 1 or "more than 1 value per channel" not in str(error):
                raise
            if not rows.ranks.several:
                raise MemoryError(TWO_NEEDED) from error
        # The rows are fewer than the workers, each of which has all of them and sees none of the others'.
        return backward(network, images, labels, loss_of, device, replace(rows, size=2))
    logits = _logits(network, images, device, rows)
    loss = loss_of(rows.gather(logits), rows.gather(labels))
    network.zero_grad(set_to_none=True)
    (loss * rows.weight).backward()
    return loss.detach()


def predict(network: nn.Module, images: Tensor, device: Device, portion: Portion) -> Tensor:
    """Return the logits (b, k), float32, of ``images``, without gradients, ``portion`` at a time."""

    def work(size: int) -> Tensor:
        with torch.no_grad(), device.autocast():
            return torch.cat([network(part).float() for part in images.split(size)])

    return portion.fit(len(images), work)


def _in_parts(network: nn.Module, images: Tensor, labels: Tensor, loss_of: Loss, device: Device, rows: Rows) -> Tensor:
    """Do what `backward` does, in two passes over the parts."""
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
    """Return the context in which this worker's gradients of ``network``, `Ranks.parallel`'s, are kept and not yet averaged."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


@contextmanager
def _as_it_was(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Take back, at the end, what the first pass drew from the generators and did to running statistics."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
