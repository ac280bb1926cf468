"""The clock of a search's hours: it runs while a slot is up, whatever else the driver waits for."""

import threading
import time


class Stopwatch:
    """Counts ``seconds``, from those of before, while it runs; threads may share it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._counted = seconds
        self._since: float | None = None
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """What it has counted until now."""
        with self._lock:
            return self._counted + self._running()

    def run(self, on: bool = True) -> None:
        """Run from now on, or, unless ``on``, stand still."""
        with self._lock:
            self._counted += self._running()
            self._since = time.monotonic() if on else None

    def _running(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since
