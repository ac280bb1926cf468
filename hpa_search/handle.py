"""One search, addressed the same way whether its OUT is visible here or it runs on a distant cluster."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

PREPARING = "preparing"
"""The state of a search whose job on a cluster has not opened its ledger yet; only a ledger knows the other states."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a search at one moment.

    ``facts`` is what `status --json` prints: `state`, `seconds` and `trials`, as `ledger.status.read_status` returns them.
    While the state is `preparing` there is also a `reason`. ``job`` is a line on the newest job of a search on a cluster,
    and empty for a search without jobs.
    """

    facts: dict[str, Any]
    job: str = ""

    @property
    def state(self) -> str:
        """Return `running`, `preparing`, `paused`, `stopped`, `interrupted` or `finished`."""
        return str(self.facts["state"])

    @property
    def is_active(self) -> bool:
        """Whether a driver runs or prepares the search."""
        return self.state in ("running", PREPARING)


class SearchHandle(Protocol):
    """A handle on one search: ask for its state, end its driver, enlarge its budget, resume it.

    `control.OutHandle` works through the files in OUT, `cluster.control.ClusterHandle` through a Ray cluster's dashboard.
    Nothing is opened or contacted before the first call, and leaving the block closes whatever was opened::

        with search_at("/shared/first", None) as search:
            search.status().state     # "running"
            search.pause(wait=True)   # the running epochs are reported, then the driver ends
            search.status().state     # "paused"
            search.extend(trials=20)  # a running search takes this at once; this one takes it from the next resume
            search.resume()           # "finished", or "submitted" where the search runs elsewhere

    Any order is allowed. `pause` and `stop` without a driver note the state that `status` shows; a second driver is refused.
    The lines for the user go to the ``say`` that a handle was made with. Each method raises UserError where there is no
    search, or where it cannot be reached.
    """

    poll_seconds: float
    """How long to wait between two calls of `status`, in seconds."""

    def __enter__(self) -> Self:
        """Return the handle."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close what the handle has opened."""
        ...

    def status(self) -> Snapshot:
        """Return the state of the search and of each trial."""
        ...

    def pause(self, *, wait: bool = False) -> None:
        """End the driver after the running epochs; with ``wait`` return when it has ended."""
        ...

    def stop(self, *, wait: bool = False) -> None:
        """End the driver now; with ``wait`` return when it has ended. Running epochs are lost and trained again."""
        ...

    def extend(self, *, trials: int | None = None, hours: float | None = None, epochs: int | None = None) -> None:
        """Add to the budget. Raises UserError where the search is not limited by that kind of budget."""
        ...

    def resume(
        self, *, data: str | None = None, external: str | None = None, cache: str | None = None, ray: str | None = None
    ) -> str:
        """Resume the search with the data it was started with.

        ``data`` and ``external`` are new places of the dataset and the external images. ``cache`` is the folder for decoded
        images on the machines that train. ``ray`` is a Ray for a driver in this process to join.

        Returns `finished`, `paused`, `stopped` or `interrupted` once a driver in this process has ended, and `submitted` at
        once for a job on a cluster. Raises UserError while another driver runs the search.
        """
        ...
