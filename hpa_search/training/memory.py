"""Retry after memory runs out: the same work on half as many images at a time."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from hpa_search.files import write_text

Result = TypeVar("Result")

MEMORY = "out_of_memory.txt"
"""The file in a trial's folder that says when memory ran out, and what was done."""

IN_OTHER_WORDS = ("CUDA error: out of memory", "'out of memory'", "_STATUS_ALLOC_FAILED", "can't allocate memory")
"""The words of the CUDA runtime, NCCL, cuBLAS and cuDNN, and of torch's host allocator, in RuntimeErrors."""


class FewerAtATimeError(Exception):
    """One of several workers cannot hold a step's images. All must start again, with ``images`` at a time.

    The other workers are blocked in a collective, some in a backward pass. Telling them would cost one more collective a
    step.
    """

    def __init__(self, images: int) -> None:
        super().__init__(images)
        self.images = images

    def __str__(self) -> str:
        return f"out of memory; all workers of the trial start again, each with {self.images} images at a time"


class MicroBatch:
    """The number of images worked on at a time: ``size``. It is halved whenever memory runs out, down to one.

    ``on_less(before, after)`` is called at each halving.
    """

    def __init__(self, size: int, on_less: Callable[[int, int], None]) -> None:
        self.size = size
        self._on_less = on_less

    def fewer(self, images: int) -> int:
        """Return half of the number worked on at a time, for ``images`` in all. Return 0 if that number is one."""
        return min(self.size, images) // 2

    def fit(self, images: int, work: Callable[[int], Result]) -> Result:
        """Return ``work(size)``. Halve ``size`` and retry while memory runs out.

        ``images`` is how many images there are in all. Raises the error of ``work`` if memory does not hold even one image.
        """
        while True:
            try:
                return work(self.size)
            except Exception as error:
                if not is_out_of_memory(error) or not self.fewer(images):
                    raise
            # Outside the except block: the exception holds frames, and with them their tensors.
            before, self.size = min(self.size, images), self.fewer(images)
            _free()
            self._on_less(before, self.size)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that the device or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in IN_OTHER_WORDS)


def note(folder: Path, line: str) -> None:
    """Append ``line`` to the memory file in the trial's ``folder``, unless it is there."""
    path = folder / MEMORY
    noted = path.read_text(encoding="utf-8") if path.exists() else ""
    if line not in noted.splitlines():
        write_text(path, f"{noted}{line}\n")


def _free() -> None:
    """Release memory that nothing holds any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
