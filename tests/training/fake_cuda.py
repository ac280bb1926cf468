"""A CUDA device that only keeps account of devices, types and shapes, for machines without one.

Under torch's FakeTensorMode, tensors of two devices in one operation and values read back by the host (`item`, `tolist`, a mask)
raise; here a copy to the host, and one to the device that the host waits for, do as well. Backward passes do not run on it: weights get
empty gradients.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from hpa_search.data import augment
from hpa_search.training import trainer
from hpa_search.training.device import Device

DEVICE = Device(torch.device("cuda", 0), torch.bfloat16, True, "fake")


@contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Yield the device. What trials build and draw on the CPU is real."""
    for owner, name in (
        (augment.Draws, "integers"),
        (augment.Draws, "symmetric"),
        (trainer, "build_network"),
        (trainer, "set_prior"),
    ):
        patch.setattr(owner, name, _really(getattr(owner, name)))
    patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    patch.setattr(torch.Tensor, "backward", _empty_gradients)
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    patch.setattr(torch.cuda, "set_device", lambda device: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield DEVICE


@contextmanager
def no_waiting(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise HostWaitsError where the host waits for a copy between itself and the device. Building a trial copies so, and may."""
    moved = torch.Tensor.to

    def to(tensor, *arguments, non_blocking=False, **named):
        found = moved(tensor, *arguments, non_blocking=non_blocking, **named)
        if found.device.type != tensor.device.type and (tensor.is_cuda or not non_blocking):
            raise HostWaitsError(f"a copy from {tensor.device} to {found.device}")
        return found

    with patch.context() as within:
        within.setattr(torch.Tensor, "to", to)
        within.setattr(torch.Tensor, "cpu", lambda tensor: to(tensor, "cpu"))
        yield


class HostWaitsError(Exception):
    """The host waits for the device."""


def _really(function):
    """Return ``function`` as it is outside of the mode."""

    def run(*arguments):
        with unset_fake_temporarily():
            return function(*arguments)

    return run


def _empty_gradients(loss: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
    """Give each weight that ``loss`` depends on a gradient of zeros."""
    assert loss.is_cuda and (gradient is None or gradient.is_cuda)
    seen, to_see = set(), [loss.grad_fn]
    while to_see:
        node = to_see.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)
        to_see += [parent for parent, _ in node.next_functions]
