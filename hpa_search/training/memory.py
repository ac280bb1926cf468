"""What to do when memory runs out: the same work again, on half as many images at a time."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

IN_OTHER_WORDS = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED", "can't allocate memory")
"""How the CUDA runtime, cuBLAS and cuDNN, and torch's allocator for the host say it, each as a plain RuntimeError."""


class Portion:
    """How many images are worked on at a time: ``size``, which is halved, down to one, whenever memory runs out.

    ``on_less(before, after)`` is called at each halving.
    """

    def __init__(self, size: int, on_less: Callable[[int, int], None]) -> None:
        self.size = size
        self._on_less = on_less

    def fit(self, images: int, work: Callable[[int], Result]) -> Result:
        """Return ``work(size)``, done on so many of ``images`` at a time; what it raises, if memory does not even hold one."""
        while True:
            try:
                return work(self.size)
            except Exception as error:
                if not is_out_of_memory(error) or min(self.size, images) == 1:
                    raise
            # Only here, where the exception is gone, are the tensors of the frames that it held.
            before, self.size = min(self.size, images), min(self.size, images) // 2
            _free()
            self._on_less(before, self.size)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in IN_OTHER_WORDS)


def _free() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
