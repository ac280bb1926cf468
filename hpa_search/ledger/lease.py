"""The lease on a ledger: one driver at a time, and a dead one's place is taken without any clock being compared."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpa_search.errors import UserError
from hpa_search.ledger.journal import JOURNAL, cut_torn_line
from hpa_search.ledger.ledger import Ledger, LedgerError
from hpa_search.ledger.stopwatch import Stopwatch
from hpa_search.system_errors import OUT, refusing

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
LEASE_SECONDS = 20.0
HURRIED_SECONDS = 5.0
SETTLING_SECONDS = 0.3
"""Of two drivers that take a lease at the same moment, the one that wrote last has it."""


class Lease:
    """Held by the driver that runs a search; a thread renews it, with the seconds spent, every few seconds.

    Its ``stopwatch`` counts them: whoever holds the lease lets it run while the search does.
    """

    def __init__(self, ledger: Ledger, *, spent: float, on_lost: Callable[[str], None] = lambda why: None) -> None:
        self.ledger = ledger
        self.stopwatch = Stopwatch(spent)
        self._holder, self._beat = uuid.uuid4().hex, 0
        self._on_lost, self._ended = on_lost, threading.Event()
        self._renewed = time.monotonic()
        self._write(held=True)
        ledger.guard = self._guard
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def spent_seconds(self) -> float:
        """Seconds in which this search had a slot, under all its drivers together."""
        return self.stopwatch.seconds

    def release(self) -> None:
        """Give the lease back, so that the next driver need not wait; it runs out by itself where that cannot be written."""
        self._ended.set()
        self.ledger.hurry()
        self._thread.join(HURRIED_SECONDS)
        try:
            if self.is_ours():
                self._write(held=False)
        except LedgerError as error:
            logger.warning("%s", error)

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                if self.is_ours():
                    self._write(held=True)
                    continue
                why = f"{self.ledger.where}: another driver has taken this search"
            except LedgerError as error:
                why = str(error)
            except Exception as error:  # whatever keeps it from being renewed, another driver may soon take it
                logger.exception("the lease on the search cannot be renewed")
                why = f"{self.ledger.where}: its lease cannot be renewed ({error})"
            if not self._ended.is_set():
                self._on_lost(why)
            return

    def is_ours(self) -> bool:
        """Whether no other driver has taken it since."""
        return self.ledger.noted()["lease"]["holder"] == self._holder

    def _guard(self) -> None:
        """After a silence in which another driver may have taken the search, look before anything is written."""
        if time.monotonic() - self._renewed < LEASE_SECONDS - BEAT_SECONDS:
            return
        if not self.is_ours():
            raise LedgerError(f"{self.ledger.where}: another driver has taken this search")
        self._renewed = time.monotonic()

    def _write(self, *, held: bool) -> None:
        self._beat += 1
        process = {"place": _place(), "pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname()}
        lease = {"holder": self._holder, "beat": self._beat, "held": held, **process}
        self.ledger.note("lease", {**lease, "spent_seconds": self.spent_seconds})
        self._renewed = time.monotonic()


def take(out: Path, name: str, *, on_lost: Callable[[str], None] = lambda why: None, say: Callable[[str], None] = print) -> Lease:
    """Take the lease on the search in ``out``, waiting for a silent driver's to run out.

    ``on_lost`` hears, from another thread, why it could not be kept. Raises UserError while another driver renews it.
    """
    if (out / JOURNAL).is_file():
        with refusing(out / JOURNAL, option=OUT, doing="the ledger cannot be written"):
            cut_torn_line(out / JOURNAL)
    ledger = Ledger.create(out, name, tell=say)
    current = ledger.noted().get("lease")
    if current and current["held"] and not _holder_is_dead(current):
        say(
            f"Another driver (process {current['pid']} on {current['host']}) may hold this search; waiting {LEASE_SECONDS:.0f} s for it."
        )
        _wait_for_silence(ledger, out, current)
    asked = time.monotonic()
    if _taken(current, ledger.noted().get("lease")):
        raise UserError(f"{out}: another driver took this search at the same moment; let it run")
    lease = Lease(ledger, spent=current["spent_seconds"] if current else 0.0, on_lost=on_lost)
    # Whoever looked before this lease was written has written by now.
    time.sleep(max(SETTLING_SECONDS, 2 * (time.monotonic() - asked)))
    if not lease.is_ours():
        raise UserError(f"{out}: another driver took this search at the same moment; let it run")
    return lease


def _taken(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Whether another driver has written its lease since ``before`` was read."""
    return (
        now is not None and now["held"] and (before is None or (before["holder"], before["beat"]) != (now["holder"], now["beat"]))
    )


def is_alive(lease: dict[str, Any] | None, seen: Callable[[], dict[str, Any]]) -> bool:
    """Return whether a driver holds the search; ``seen`` reads the lease again after one beat if that is needed."""
    if not lease or not lease["held"] or _holder_is_dead(lease):
        return False
    if lease["place"] == _place():
        return True
    time.sleep(BEAT_SECONDS + 1)
    latest = seen()
    return bool(latest["held"]) and latest["beat"] != lease["beat"]


def _wait_for_silence(ledger: Ledger, out: Path, current: dict[str, Any]) -> None:
    """Return when the holder of the lease ``current`` has not renewed it for `LEASE_SECONDS`. Raises UserError if it does."""
    left = LEASE_SECONDS
    while left > 0:
        time.sleep(0.5)
        left -= 0.5
        asked = time.monotonic()
        latest = ledger.noted()["lease"]
        if time.monotonic() - asked > 1:
            # The ledger was away, also for the holder, which is given its time anew.
            left = LEASE_SECONDS
        if not latest["held"]:
            return
        if (latest["holder"], latest["beat"]) != (current["holder"], current["beat"]):
            raise UserError(
                f"{out}: this search is being run by process {latest['pid']} on {latest['host']}; "
                "watch it with `hpa-search status`, or stop that process first"
            )


def _holder_is_dead(lease: dict[str, Any]) -> bool:
    """Only a process of this very machine and process namespace can be known to be dead at once.

    Numbers of processes, and of namespaces, are given out again: another process has started at another moment.
    """
    return lease["place"] == _place() != "" and _started(lease["pid"]) != lease["started"]


def _started(pid: int) -> int | None:
    """When a process of this namespace started, in ticks since the machine did (proc(5), stat); None if it runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
