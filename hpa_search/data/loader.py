"""Batches of images and labels on the device, fetched in advance by a thread."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AHEAD = 2
"""Batches fetched in advance; each holds batch_size x 4 x s x s bytes."""


class Images(Protocol):
    """Anything that returns images by row number, such as the packed cache."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at ``rows`` (b,) as a new array, uint8 (b, 4, s, s)."""
        ...


@dataclass(frozen=True)
class Batch:
    """Images uint8 (b, 4, s, s) and labels float32 (b, 28), both on the device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def split_rows(rows: NDArray[np.int64], batch_size: int, *, training: bool) -> list[NDArray[np.int64]]:
    """Cut ``rows`` into batches; the last may be short.

    In training, a last batch of one row is dropped. Over a 1x1 feature map, batch norm has nothing to average.
    """
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    if training and parts and len(parts[-1]) == 1:
        parts.pop()
    return parts


class Batches:
    """Iterates over the batches ``parts`` of rows, in order.

    The image at a row goes with ``labels`` (n, 28) at that row. Each iteration starts anew. One thread fetches ahead; it ends
    when the iteration stops. ``waited`` is how many seconds the caller has waited for batches.
    """

    def __init__(
        self, images: Images, labels: NDArray[np.bool_], parts: list[NDArray[np.int64]], device: torch.device | None = None
    ) -> None:
        self._images = images
        self._labels = labels
        self._parts = parts
        self._device = device or torch.device("cpu")
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches", initializer=self._choose_device) as pool:
            try:
                for rows in self._parts:
                    waiting.append(pool.submit(self._fetch, rows))
                    if len(waiting) > AHEAD:
                        yield self._next(waiting)
                while waiting:
                    yield self._next(waiting)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _next(self, waiting: deque[Future[Batch]]) -> Batch:
        began = time.perf_counter()
        batch = self._to_device(waiting.popleft().result())
        self.waited += time.perf_counter() - began
        return batch

    def _choose_device(self) -> None:
        """Page-lock for this process's GPU: a thread starts on the first visible GPU."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)

    def _fetch(self, rows: NDArray[np.int64]) -> Batch:
        """Return one batch in host memory, page-locked if a GPU copies from it."""
        images = torch.from_numpy(self._images.gather(rows))
        labels = torch.from_numpy(self._labels[rows]).float()
        if self._device.type != "cuda":
            return Batch(images, labels)
        return Batch(images.pin_memory(), labels.pin_memory())

    def _to_device(self, batch: Batch) -> Batch:
        return Batch(batch.images.to(self._device, non_blocking=True), batch.labels.to(self._device, non_blocking=True))
