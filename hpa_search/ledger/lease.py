"""The lease on a ledger. One driver holds it at a time. A new driver replaces a dead driver without comparing clocks."""

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
"""Seconds between writing a lease and trusting it. Of two drivers that write at the same moment, the last writer has it."""


class Lease:
    """The lease that the driver of a search holds. A thread renews it, with the seconds spent, every few seconds.

    ``stopwatch`` counts the seconds spent. The holder runs it while the search has a slot. ``on_lost`` gets the reason, in
    that thread, if the lease cannot be kept.
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
        """Give the lease back, so that the next driver need not wait. If this cannot be written, the lease expires by itself."""
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
            except Exception as error:  # whatever prevents renewal, another driver may soon take the search
                logger.exception("the lease on the search cannot be renewed")
                why = f"{self.ledger.where}: its lease cannot be renewed ({error})"
            if not self._ended.is_set():
                self._on_lost(why)
            return

    def is_ours(self) -> bool:
        """Return whether no other driver has taken the lease."""
        return self.ledger.noted()["lease"]["holder"] == self._holder

    def _guard(self) -> None:
        """Raise LedgerError if another driver has taken the search. Read the lease only after a silence that allows this."""
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
    """Take the lease on the search in ``out``. Wait for the lease of a silent driver to expire.

    ``on_lost`` gets the reason, in another thread, if the lease cannot be kept. Raises UserError while another driver renews it.
    """
    if (out / JOURNAL).is_file():
        with refusing(out / JOURNAL, option=OUT, doing="the ledger cannot be written"):
            cut_torn_line(out / JOURNAL)
    ledger = Ledger.create(out, name, tell=say)
    # A study has no compare-and-swap: wait for silence, check that nobody has written, write, wait, and read back.
    current = ledger.noted().get("lease")
    if current and current["held"] and not _holder_is_dead(current):
        say(
            f"Another driver (process {current['pid']} on {current['host']}) may hold this search; "
            f"waiting {LEASE_SECONDS:.0f} s for it."
        )
        _wait_for_silence(ledger, out, current)
    asked = time.monotonic()
    if _taken(current, ledger.noted().get("lease")):
        raise UserError(f"{out}: another driver took this search at the same moment; let it run")
    lease = Lease(ledger, spent=current["spent_seconds"] if current else 0.0, on_lost=on_lost)
    # A driver that read before this lease was written has written its own by now.
    time.sleep(max(SETTLING_SECONDS, 2 * (time.monotonic() - asked)))
    if not lease.is_ours():
        raise UserError(f"{out}: another driver took this search at the same moment; let it run")
    return lease


def _taken(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Return whether another driver has written its lease since ``before`` was read."""
    return (
        now is not None and now["held"] and (before is None or (before["holder"], before["beat"]) != (now["holder"], now["beat"]))
    )


def is_alive(lease: dict[str, Any] | None, seen: Callable[[], dict[str, Any]]) -> bool:
    """Return whether a driver holds the search. If only a beat can show that, wait for a beat and read the lease by ``seen``."""
    if not lease or not lease["held"] or _holder_is_dead(lease):
        return False
    if lease["place"] == _place():
        return True
    time.sleep(BEAT_SECONDS + 1)
    latest = seen()
    return bool(latest["held"]) and latest["beat"] != lease["beat"]


def _wait_for_silence(ledger: Ledger, out: Path, current: dict[str, Any]) -> None:
    """Return when the holder of the lease ``current`` has not renewed it for `LEASE_SECONDS`.

    Raises UserError if the holder renews it.
    """
    left = LEASE_SECONDS
    while left > 0:
        time.sleep(0.5)
        left -= 0.5
        asked = time.monotonic()
        latest = ledger.noted()["lease"]
        if time.monotonic() - asked > 1:
            # The ledger was away, for the holder too: its time starts again.
            left = LEASE_SECONDS
        if not latest["held"]:
            return
        if (latest["holder"], latest["beat"]) != (current["holder"], current["beat"]):
            raise UserError(
                f"{out}: this search is being run by process {latest['pid']} on {latest['host']}; "
                "watch it with `hpa-search status`, or stop that process first"
            )


def _holder_is_dead(lease: dict[str, Any]) -> bool:
    """Return whether the holder is known to be dead, which shows only on its own machine and in its process namespace.

    Numbers of processes and namespaces are reused, so the start time is compared too.
    """
    return lease["place"] == _place() != "" and _started(lease["pid"]) != lease["started"]


def _started(pid: int) -> int | None:
    """Return when a process of this namespace started, in ticks since boot (proc(5), stat); None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _place() -> str:
    """Return the boot and process namespace of this process, or an empty text if they are unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
