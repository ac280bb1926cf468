"""Run many transfers at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

TRANSFERS = 24
"""Threads: one for each connection that pyarrow's S3 client keeps."""

T = TypeVar("T")


def in_parallel(work: Callable[[T], None], items: Iterable[T], *, done: Callable[[int], None] = lambda count: None) -> None:
    """Call ``work`` on each of ``items`` in threads.

    ``done`` is called in this thread with the number of finished items. Raises the first exception; items that have not
    started are skipped.
    """
    with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="transfer") as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            for count, future in enumerate(as_completed(running), start=1):
                future.result()
                done(count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
