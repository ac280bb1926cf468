"""The device and the precision that trials train in, chosen once a process and logged with the reason."""

import logging
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)

logger = logging.getLogger(__name__)


CONTEXT_BYTES = 600_000_000
"""Set aside for a process's CUDA context, with the kernels of cuDNN and cuBLAS: torch's limit does not count it."""


@dataclass(frozen=True)
class Device:
    """A device, the type in which it computes convolutions, and whether weights lie channels last."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool
    reason: str

    def place(self, network: AnyModule) -> AnyModule:
        """Return ``network``, which is moved to the device, its weights in the device's layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        placed: AnyModule = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        return placed

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which to call the network. It changes nothing if ``dtype`` is float32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}, {layout}: {self.reason}"


@cache
def choose_device() -> Device:
    """Return this process's CUDA device if it has one, else the CPU. Log it with the reason the first time.

    Also make torch's kernels repeatable, see `set_repeatable`, and take the number of threads from OMP_NUM_THREADS if that is set.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))
    chosen = _cuda() if torch.cuda.is_available() else _cpu()
    logger.info("device: %s", chosen)
    return chosen


def _cuda() -> Device:
    set_repeatable(True)
    device = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(device)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Device(device, torch.bfloat16, True, f"{name} computes in bfloat16")
    return Device(device, torch.float32, True, f"{name} does not compute in bfloat16")


def _cpu() -> Device:
    # Never bfloat16: most CPUs emulate it, many times slower than float32.
    threads = torch.get_num_threads()
    return Device(torch.device("cpu"), torch.float32, False, f"no CUDA device is visible; {threads} threads")


def limit_memory(share: float) -> None:
    """Let this process take at most ``share`` of its GPU's memory, if that is a part of it; the driver's own part counts.

    Beyond that torch raises OutOfMemoryError, and the trial works on fewer images at a time. Without a limit a neighbour on the same GPU
    would run out of memory instead.
    """
    if not 0 < share < 1 or not torch.cuda.is_available():
        return
    try:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(max(share - CONTEXT_BYTES / total, share / 2))
    except RuntimeError as error:  # what is wrong with the GPU is then the trial's failure, which is told
        logger.warning("the GPU's memory cannot be limited to this process's share: %s", error)


def set_repeatable(repeatable: bool) -> None:
    """Choose deterministic kernels of CUDA, so that a trial repeats from its seed, or whatever kernels cuDNN finds the fastest.

    Operations without a deterministic kernel are warned about. A CPU's kernels repeat in any case.
    """
    if not torch.cuda.is_available():
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(repeatable, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not repeatable
