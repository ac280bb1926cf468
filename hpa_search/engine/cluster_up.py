"""The Ray that a driver works on: joined, or started here and ended afterwards."""

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.train.torch import TorchTrainer

from hpa_search.engine.ray_logs import RayLogs
from hpa_search.engine.ray_private import AuthenticationTokenLoader
from hpa_search.engine.slot import SLOT_THREAD
from hpa_search.engine.surroundings import elsewhere, settled
from hpa_search.errors import UserError

OBJECT_STORE = 512 * 2**20
"""Bytes for objects of a local Ray: a search passes only messages, and Docker's /dev/shm has 64 MB."""
CONNECT_SECONDS = 10.0
FOLDER = "workers"
"""The current folder of a local Ray's processes, below its scratch folder."""


@contextmanager
def ray_up(address: str | None, scratch: Path) -> Iterator[None]:
    """Join a Ray, or start a local one that keeps its files in ``scratch``; end what was started here.

    Where one is up already, that is the one. Raises UserError if none can be reached or started.
    """
    if ray.is_initialized():
        yield
        return
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with settled(address, scratch):
        if ".v2." not in TorchTrainer.__module__:
            raise UserError("RAY_TRAIN_V2_ENABLED=0 was set when this process imported Ray; unset it, and start again")
        _forget_token()
        try:
            with _signals_as_they_are(), elsewhere(_own_folder(scratch)):
                _init(address, scratch)
            yield
        finally:
            # A thread that is still in a call to Ray would take the whole process with it, and the final stage is to come:
            # then Ray ends with the process.
            if not is_in_use():
                family = _processes()
                ray.shutdown()
                _kill(family)  # the raylet's agents look every few seconds whether it is there
                _forget_token()


def is_in_use() -> bool:
    """Return whether a slot's thread is in a call to Ray that has not come back."""
    return any(thread.name.startswith(SLOT_THREAD) for thread in threading.enumerate())


def end_processes() -> None:
    """Kill the processes of a local Ray, and wait for none; a joined one is left alone."""
    _kill(_processes())


def _processes() -> list[psutil.Process]:
    """Return the processes of Ray's that this one has started, and those that they have."""
    return [process for process in psutil.Process().children(recursive=True) if _is_rays(process)]


def _is_rays(process: psutil.Process) -> bool:
    try:
        return any("/ray/" in word or word.startswith("ray::") for word in process.cmdline())
    except psutil.Error:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _init(address: str | None, scratch: Path) -> None:
    own: dict[str, Any] = {"address": address}
    if address is not None:
        _check_reachable(address)
    else:
        _check_loopback()
        # Train asks the dashboard before it frees resources, so a local one stays on.
        own = {"address": "local", "include_dashboard": True, "object_store_memory": OBJECT_STORE, "_temp_dir": str(scratch)}
    try:
        ray.init(**own, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of whatever kind Ray raises here: no search can run
        reason = str(error).strip() or type(error).__name__
        if address is None:
            raise UserError(
                f"no local Ray could be started: {reason}. The last that it wrote:{RayLogs(scratch).last_words()}"
            ) from None
        if address == "auto" and isinstance(error, ConnectionError):
            reason = "none runs on this machine; give its address, such as HOST:6379, or leave --ray out"
        raise UserError(f"--ray {address}: no Ray could be reached: {reason}") from None


def _check_loopback() -> None:
    """Raise UserError if this machine does not reach itself: the processes of a Ray talk to each other by its network."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"127.0.0.1: this machine does not reach itself ({error.strerror or error}), and no local Ray can be started; bring the "
            "loopback network up (ip link set lo up)"
        ) from None


def _check_reachable(address: str) -> None:
    """Raise UserError if nothing listens at ``address``: Ray itself would try for two minutes, deaf to signals."""
    if address.startswith("ray://"):
        raise UserError(f"--ray {address}: is a Ray Client's; give the cluster's own address, such as HOST:6379")
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise UserError(
                f"--ray {address}: nothing answers there ({error.strerror or error}); give the address that `ray start` printed "
                "on the cluster's head, such as HOST:6379"
            ) from None


def _own_folder(scratch: Path) -> Path:
    folder = scratch / FOLDER
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _signals_as_they_are() -> Iterator[None]:
    """Keep this process's way to take SIGTERM, which Ray changes, and have what is started in the block outlive its terminal.

    The driver ends its processes in order when the terminal is closed.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    handler, others = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        # A signal that came meanwhile has put the handlers of all signals back to what they were before the search.
        came = signal.getsignal(signal.SIGINT) != others
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT) if came else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _forget_token() -> None:
    """Have Ray read its token anew: this process may have used another cluster's."""
    AuthenticationTokenLoader.instance().reset_cache()
