"""Decide what a Ray inherits from the shell and the folder of a command. No other module decides it.

Ray hands the driver's environment and current folder to each of its processes. Another project's variable may end or hang
them. So would a script named like a Python module, or a read-only home folder.

A local Ray belongs to the driver alone. Of the variables that steer Ray, Tune and torch.distributed, it sees only `KEPT` and
`OURS`. A joined Ray has an environment of its own. There only `OURS` are set, because Ray Train and Tune read them here.
"""

import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OURS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray would block the driver, deaf to signals, until the first workers are up. Faulty workers never are.
    "RAY_prestart_worker_first_driver": "0",
    # The watcher costs a process for each slot, and the fleet itself detects hosts that go.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Tune's tables would mix with ours, and only its older reporter can be silenced.
    "RAY_AIR_NEW_OUTPUT": "0",
    # A slot starts several processes at a time, and Ray warns above one a core.
    "RAY_worker_maximum_startup_concurrency": "64",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
}
"""Variables that are set for each Ray, whatever the shell says."""

KEPT = frozenset({"RAY_TMPDIR", "RAY_BACKEND_LOG_LEVEL", "RAY_memory_usage_threshold", "RAY_memory_monitor_refresh_ms"})
"""Ray's variables that a user may set for a local Ray."""

STEERING = ("RAY_", "TUNE_", "TORCHELASTIC_")
"""Prefixes of the variables that steer Ray, Tune and torch's launcher."""

LEFT_BEHIND = frozenset(
    {
        # Left by torchrun and Slurm scripts; Ray Train sets them itself.
        *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK"),
        # Network interfaces and addresses of other machines: all workers of a local Ray are on this machine.
        *("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "NCCL_COMM_ID", "NCCL_RAS_ADDR", "TORCHFT_LIGHTHOUSE"),
        # A warning turned into an error ends Ray's processes; an interpreter that inspects never ends.
        *("PYTHONWARNINGS", "PYTHONINSPECT"),
    }
)
"""Further variables that are hidden from a local Ray."""

NO_HOME = "/nonexistent"
"""The home of a user without a home folder, by Debian's policy."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def settle(address: str | None) -> tuple[str, ...]:
    """Set this process's environment for the Ray at ``address``, None for a local Ray. Return the names of dropped variables.

    Call this before anything imports Ray, which reads some variables at import. A second call changes nothing.
    """
    dropped = sorted(name for name, value in os.environ.items() if address is None and _is_foreign(name, value))
    for name in dropped:
        del os.environ[name]
    if "PYTHONWARNINGS" in dropped:
        warnings.filters[:] = [one for one in warnings.filters if one[0] != "error"]  # type: ignore[index]
    os.environ.update(OURS)
    if not has_home():  # Ray needs it at import
        os.environ["HOME"] = NO_HOME
    spare_loopback()
    return tuple(dropped)


@contextmanager
def settled(address: str | None, scratch: Path) -> Iterator[None]:
    """Keep the environment for a Ray at ``address`` while the block runs, and restore it afterwards.

    A local Ray gets a token of its own, and ``scratch``, a folder of this search, for temporary files. ``scratch`` is its home
    too if this user has none.
    """
    before = dict(os.environ)
    with suppress(FileNotFoundError):
        tempfile.gettempdir()  # cached from now on: this process's own temporary files must not be in scratch
    settle(address)
    if address is None:
        # Ray would write its token to the home folder, which is read-only in many containers.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        os.environ.update({"RAY_TMPDIR": str(scratch), "TMPDIR": str(scratch)})
        if os.environ.get("HOME") == NO_HOME:
            os.environ["HOME"] = str(scratch)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def elsewhere(folder: Path) -> Iterator[None]:
    """Work in ``folder`` while the block runs. Ray puts the current folder first on its workers' module path."""
    before = os.open(".", os.O_RDONLY)  # not by name: the folder may be deleted
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def has_home() -> bool:
    """Return whether this user's home folder is known. An empty HOME does not count."""
    try:
        return os.environ.get("HOME") != "" and bool(Path.home())
    except RuntimeError:
        return False


def spare_loopback() -> None:
    """Reach this machine without a proxy, in this process and in those that it starts."""
    names = ("no_proxy", "NO_PROXY")  # programs read either spelling
    spared = [part.strip() for name in names for part in os.environ.get(name, "").split(",") if part.strip()]
    whole = "*" if "*" in spared else ",".join(dict.fromkeys([*spared, *LOOPBACK]))
    os.environ.update(dict.fromkeys(names, whole))


def _is_foreign(name: str, value: str) -> bool:
    if name in KEPT or OURS.get(name) == value:
        return False
    return name.startswith(STEERING) or name in LEFT_BEHIND
