"""The loss and the gradients of one batch: at once, part by part where memory does not hold it, or by several workers.

Part by part there are two passes, whatever the loss. The first computes the logits of all parts and keeps nothing else;
of them and the whole batch's loss, be it a mean over rows or not (soft F1), comes the gradient at each logit. The second
computes each part again, now with what the backward pass needs, and goes back from its logits' share of that gradient. The
sum over the parts is the gradient of the whole batch. A loss need not know of it, and summing losses of parts, weighted by
their rows, would not do for one that is no mean over rows. The price is a second forward pass, about a third of a step's
time, paid only by trials that run out of memory.

Both passes draw the same for dropout. Batch norms normalise each part by itself, alike in both passes, and count every
part into their running statistics, once.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from hpa_search.training.batch_norm import WholeBatch
from hpa_search.training.device import Device
from hpa_search.training.losses import Loss
from hpa_search.training.memory import Portion
from hpa_search.training.ranks import Ranks


def backward(network: nn.Module, images: Tensor, labels: Tensor, loss_of: Loss, device: Device, size: int) -> Tensor:
    """Put the gradients of a batch's loss into ``network``, in place of those there; return the loss, still on the device.

    ``images`` (b, c, s, s) are worked on at most ``size`` at a time, ``labels`` are (b, k). Raises MemoryError where a batch
    norm would have to work on a single image.
    """
    if len(images) > size:
        return _in_parts(network, images, labels, loss_of, device, size)
    with device.autocast():
        logits = network(images)
    loss = loss_of(logits.float(), labels)
    network.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach()


def backward_together(
    network: nn.Module, images: Tensor, labels: Tensor, batch: int, loss_of: Loss, device: Device, ranks: Ranks
) -> Tensor:
    """Do what `backward` does for a batch of ``batch`` rows, of which ``images`` and ``labels`` are this worker's share.

    ``network`` is `Ranks.parallel`'s, and all workers must call this. Each computes the loss of the whole batch from the
    logits of all, and goes back from its own rows' logits: the sum over workers is the gradient of that loss, whatever it is.
    """
    parted = ranks.parted(batch)
    with WholeBatch() if parted else nullcontext(), device.autocast():
        logits = network(images)
    loss = loss_of(ranks.gather(logits.float(), batch), ranks.gather(labels, batch))
    network.zero_grad(set_to_none=True)
    # The workers' gradients are averaged: of parts it is their sum that counts.
    (loss * ranks.world if parted else loss).backward()
    return loss.detach()


def predict(network: nn.Module, images: Tensor, device: Device, portion: Portion) -> Tensor:
    """Return the logits (b, k), float32, of ``images``, without gradients, ``portion`` at a time."""

    def work(size: int) -> Tensor:
        with torch.no_grad(), device.autocast():
            return torch.cat([network(part).float() for part in images.split(size)])

    return portion.fit(len(images), work)


def parts(images: Tensor, size: int) -> tuple[Tensor, ...]:
    """Cut ``images`` into parts of about the same length, at most ``size``.

    No part has a single image unless ``size`` is 1, for batch norms may need two: three images are one part if ``size`` is 2.
    """
    count = -(-len(images) // size)
    if size > 1:
        count = min(count, max(1, len(images) // 2))
    return images.tensor_split(count)


def _in_parts(network: nn.Module, images: Tensor, labels: Tensor, loss_of: Loss, device: Device, size: int) -> Tensor:
    """Do what `backward` does, in two passes over the parts."""
    network.zero_grad(set_to_none=True)
    cut = parts(images, size)
    with torch.no_grad(), _as_it_was(network, device.device), _needs_two(size):
        logits = torch.cat([_logits(network, part, device) for part in cut])
    loss = loss_of(logits.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    for part, of_part in zip(cut, gradient.split([len(part) for part in cut]), strict=True):
        _logits(network, part, device).backward(of_part)
    return loss.detach()


def _logits(network: nn.Module, images: Tensor, device: Device) -> Tensor:
    with device.autocast():
        logits: Tensor = network(images)
    return logits.float()


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


@contextmanager
def _needs_two(size: int) -> Iterator[None]:
    """Say that it is for want of memory that a batch norm got a single image."""
    try:
        yield
    except ValueError as error:
        if size > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise MemoryError("memory does not hold 2 images at a time, and the network's batch norm cannot work on 1") from error
