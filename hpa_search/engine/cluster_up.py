"""Join a running Ray, or start a local Ray and end it afterwards."""

import logging
import signal
import socket
import threading
import time
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
"""Bytes for the objects of a local Ray. A search passes only messages, and Docker's /dev/shm has 64 MB."""
CONNECT_SECONDS = 10.0
KILL_SECONDS = 2.0
"""How long Ray's processes are killed before one that the kernel cannot end is left."""
FOLDER = "workers"
"""The current folder of a local Ray's processes, below the scratch folder."""


@contextmanager
def ray_up(address: str | None, scratch: Path) -> Iterator[None]:
    """Join the Ray at ``address``. Without an address, start a local Ray with its files in ``scratch``, and end it afterwards.

    A Ray that this process has initialised already is used as it is. Raises UserError if no Ray can be reached or started.
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
            # A shutdown under a thread that is still in a call to Ray ends the whole process, and the final stage is to come.
            # Ray then ends with the process.
            if not is_in_use():
                ray.shutdown()
                end_processes(scratch)  # the raylet's agents check only every few seconds that it lives
                _forget_token()


def is_in_use() -> bool:
    """Return whether a slot's thread is still in a call to Ray."""
    return any(thread.name.startswith(SLOT_THREAD) for thread in threading.enumerate())


def end_processes(scratch: Path) -> None:
    """Kill the processes of the local Ray that works in ``scratch``, also those that it is starting. A joined Ray is left alone.

    Their current folder tells them from others. It stays when a process's parent dies, and is set before its title.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while (left := _processes(scratch.resolve())) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=0.1)


def _processes(scratch: Path) -> list[psutil.Process]:
    """Return the processes of Ray whose current folder is ``scratch`` or below it."""
    return [process for process in psutil.process_iter() if _works_in(process, scratch) and _is_rays(process)]


def _works_in(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):  # it has ended, or is another user's
        return Path(process.cwd()).is_relative_to(folder)
    return False


def _is_rays(process: psutil.Process) -> bool:
    """Return whether it is Ray's by its command or its title. A shell in which somebody reads Ray's logs is not."""
    with suppress(psutil.Error):
        words = process.cmdline()  # empty for a moment while a program is loaded
        return not words or any("/ray/" in word or word.startswith("ray::") for word in words)
    return False


def _init(address: str | None, scratch: Path) -> None:
    own: dict[str, Any] = {"address": address}
    if address is not None:
        _check_reachable(address)
    else:
        _check_loopback()
        # Train asks the dashboard before it frees resources, so a local Ray runs its dashboard.
        own = {"address": "local", "include_dashboard": True, "object_store_memory": OBJECT_STORE, "_temp_dir": str(scratch)}
    try:
        ray.init(**own, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many kinds here, and no search can run after any of them
        reason = str(error).strip() or type(error).__name__
        if address is None:
            raise UserError(
                f"no local Ray could be started: {reason}. The end of its log:{RayLogs(scratch).last_words()}"
            ) from None
        if address == "auto" and isinstance(error, ConnectionError):
            reason = "no Ray runs on this machine; give its address, such as HOST:6379, or leave --ray out"
        raise UserError(f"--ray {address}: no Ray could be reached: {reason}") from None


def _check_loopback() -> None:
    """Raise UserError if this machine cannot connect to itself: Ray's processes talk over its network."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"127.0.0.1: this machine cannot connect to itself ({error.strerror or error}), so no local Ray can start; bring "
            "up the loopback network (ip link set lo up)"
        ) from None


def _check_reachable(address: str) -> None:
    """Raise UserError if nothing listens at ``address``. Ray itself would try for two minutes and ignore signals."""
    if address.startswith("ray://"):
        raise UserError(
            f"--ray {address}: this is the address of a Ray Client; give the cluster's own address, such as HOST:6379"
        )
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
    """Keep this process's handler of SIGTERM, which Ray replaces. Block SIGHUP in the processes started meanwhile.

    These processes outlive a closed terminal. The driver then ends them in order.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    handler, others = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        # A signal that came meanwhile has restored the handlers from before the search; SIGTERM's must then be restored too.
        came = signal.getsignal(signal.SIGINT) != others
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT) if came else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _forget_token() -> None:
    """Make Ray read its token again: this process may have used another cluster's token."""
    AuthenticationTokenLoader.instance().reset_cache()
