"""What a Ray inherits from the shell and folder in which a command is given: the one place that decides it.

Ray hands the driver's environment and current folder to each of its processes. A variable that another project needs, a
script named as a module of Python, or a home folder that cannot be written to would end or hang them.

A local Ray is ours alone, so of the variables that steer Ray, Tune and torch.distributed it sees only those in `KEPT` and
`OURS`. A Ray that is joined has an environment of its own; there only `OURS` are set, which Ray Train and Tune read here.
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
    # Ray would let a driver wait, deaf to signals, until the first workers are up, which a fault of theirs may prevent.
    "RAY_prestart_worker_first_driver": "0",
    # A process for each slot that nobody asks: the fleet looks for hosts that go.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Tune's own tables would stand among ours; its older reporter is the one that can be silenced.
    "RAY_AIR_NEW_OUTPUT": "0",
    # A slot is several processes; Ray warns when more than one a core start at a time.
    "RAY_worker_maximum_startup_concurrency": "64",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
}
"""Set for each Ray, whatever the shell says."""

KEPT = frozenset({"RAY_TMPDIR", "RAY_BACKEND_LOG_LEVEL", "RAY_memory_usage_threshold", "RAY_memory_monitor_refresh_ms"})
"""Variables of Ray's that a user may set for a local Ray."""

STEERING = ("RAY_", "TUNE_", "TORCHELASTIC_")
"""How the names of variables begin that steer Ray, Tune and torch's launcher."""

LEFT_BEHIND = frozenset(
    {
        # What torchrun and Slurm scripts leave, and Ray Train sets itself.
        *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK"),
        # Network interfaces and addresses of another machine: all workers of a local Ray are on this one.
        *("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "NCCL_COMM_ID", "NCCL_RAS_ADDR", "TORCHFT_LIGHTHOUSE"),
        # Warnings that are errors end Ray's processes, and an interpreter that stays open never ends.
        *("PYTHONWARNINGS", "PYTHONINSPECT"),
    }
)
"""Further variables that no process of a local Ray sees."""

NO_HOME = "/nonexistent"
"""The home of a user who has none, as Debian's policy has it."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def settle(address: str | None) -> tuple[str, ...]:
    """Set this process's environment for the Ray at ``address``, None for a local one, and return the names that were dropped.

    Call it before Ray is imported, which reads some variables then; calling it again does nothing.
    """
    dropped = sorted(name for name, value in os.environ.items() if address is None and _is_foreign(name, value))
    for name in dropped:
        del os.environ[name]
    if "PYTHONWARNINGS" in dropped:
        warnings.filters[:] = [one for one in warnings.filters if one[0] != "error"]  # type: ignore[index]
    os.environ.update(OURS)
    if not has_home():  # Ray asks for it when it is imported
        os.environ["HOME"] = NO_HOME
    spare_loopback()
    return tuple(dropped)


@contextmanager
def settled(address: str | None, scratch: Path) -> Iterator[None]:
    """Keep the environment for a Ray at ``address`` while the block runs; ``scratch`` is a folder of this search's own.

    A local Ray gets a token of its own, ``scratch`` for temporary files, and a home there if this user has none.
    """
    before = dict(os.environ)
    with suppress(FileNotFoundError):
        tempfile.gettempdir()  # kept from now on: what this process writes for later does not belong into the scratch folder
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
    """Have ``folder`` as the current one while the block runs: Ray puts that first on the module path of its workers."""
    before = os.open(".", os.O_RDONLY)  # it may be gone, and have no name
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def has_home() -> bool:
    """Return whether this user's home folder is known; an empty HOME says nothing."""
    try:
        return os.environ.get("HOME") != "" and bool(Path.home())
    except RuntimeError:
        return False


def spare_loopback() -> None:
    """Have no proxy asked for what is on this machine, in this process and those that it starts."""
    names = ("no_proxy", "NO_PROXY")  # some programs read the one, some the other
    spared = [part.strip() for name in names for part in os.environ.get(name, "").split(",") if part.strip()]
    whole = "*" if "*" in spared else ",".join(dict.fromkeys([*spared, *LOOPBACK]))
    os.environ.update(dict.fromkeys(names, whole))


def _is_foreign(name: str, value: str) -> bool:
    if name in KEPT or OURS.get(name) == value:
        return False
    return name.startswith(STEERING) or name in LEFT_BEHIND
