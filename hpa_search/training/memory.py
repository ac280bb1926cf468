"""What to do when memory runs out: the same work again, on half as many images at a time."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from hpa_search.files import write_text

Result = TypeVar("Result")

MEMORY = "out_of_memory.txt"
"""The file in a trial's folder that says, where memory ran out, when that was and what was done about it."""

IN_OTHER_WORDS = ("CUDA error: out of memory", "'out of memory'", "_STATUS_ALLOC_FAILED", "can't allocate memory")
"""How the CUDA runtime, NCCL, cuBLAS and cuDNN, and torch's allocator for the host say it, as RuntimeErrors."""


class FewerAtATimeError(Exception):
    """Memory does not hold a step's images on one of several workers, which start again together, with ``images`` at a time.

    It runs out between two talks with the others: they wait for it, some in the middle of a backward pass, and cannot be told
    without a talk more at every step.
    """

    def __init__(self, images: int) -> None:
        super().__init__(images)
        self.images = images

    def __str__(self) -> str:
        return f"out of memory; all workers of the trial start again, each with {self.images} images at a time"


class Portion:
    """How many images are worked on at a time: ``size``, which is halved, down to one, whenever memory runs out.

    ``on_less(before, after)`` is called at each halving.
    """

    def __init__(self, size: int, on_less: Callable[[int, int], None]) -> None:
        self.size = size
        self._on_less = on_less

    def fewer(self, images: int) -> int:
        """Return half of what is worked on at a time where there are so many ``images``: 0 if that is a single one."""
        return min(self.size, images) // 2

    def fit(self, images: int, work: Callable[[int], Result]) -> Result:
        """Return ``work(size)``, done on so many of ``images`` at a time; what it raises, if memory does not even hold one."""
        while True:
            try:
                return work(self.size)
            except Exception as error:
                if not is_out_of_memory(error) or not self.fewer(images):
                    raise
            # Only here, where the exception is gone, are the tensors of the frames that it held.
            before, self.size = min(self.size, images), self.fewer(images)
            _free()
            self._on_less(before, self.size)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in IN_OTHER_WORDS)


def note(folder: Path, line: str) -> None:
    """Write ``line`` into the file of a trial's ``folder`` that tells of memory, unless it is there."""
    path = folder / MEMORY
    noted = path.read_text(encoding="utf-8") if path.exists() else ""
    if line not in noted.splitlines():
        write_text(path, f"{noted}{line}\n")


def _free() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
