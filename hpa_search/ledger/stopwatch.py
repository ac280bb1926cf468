"""The clock of a search's hours. It runs while a slot is up, whatever else the driver waits for."""

import threading
import time


class Stopwatch:
    """Counts seconds while it runs, starting from ``seconds``. Threads may share it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._counted = seconds
        self._since: float | None = None
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """The seconds counted until now."""
        with self._lock:
            return self._counted + self._running()

    def run(self, on: bool = True) -> None:
        """Count from now on, or stop counting unless ``on``."""
        with self._lock:
            self._counted += self._running()
            self._since = time.monotonic() if on else None

    def _running(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since
