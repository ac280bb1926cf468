"""One search, addressed the same way here and on a distant cluster."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

PREPARING = "preparing"
"""The state of a search whose job on a cluster has not opened its ledger yet; only a ledger knows the other states."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a search at one moment.

    ``facts`` is the output of `status --json`: `state`, `seconds` and `trials`, as `ledger.status.read_status` returns them.
    While the state is `preparing` there is also a `reason`. ``job`` is a line on the newest job of a search on a cluster, else
    empty.
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
    """A handle on one search, to read its state, end its driver, extend its budget and resume it.

    `control.OutHandle` works through the files in OUT, `cluster.control.ClusterHandle` through a Ray cluster's dashboard.
    The first call opens OUT or contacts the dashboard. The end of the block closes OUT::

        with search_at("/shared/first", None) as search:
            search.status().state     # "running"
            search.pause(wait=True)   # the running epochs are reported, then the driver ends
            search.status().state     # "paused"
            search.extend(trials=20)  # a paused search takes this from its next resume, a running search at once
            search.resume()           # "finished", or "submitted" where the search runs elsewhere

    Any order is allowed. Without a driver, `pause` and `stop` note the state that `status` shows. A second driver is refused.
    Lines for the user go to the ``say`` of the handle. Each method raises UserError if it finds or reaches no search.
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
        """End the driver after the running epochs. With ``wait``, return when it has ended."""
        ...

    def stop(self, *, wait: bool = False) -> None:
        """End the driver now; `resume` trains the running epochs again. With ``wait``, return when it has ended."""
        ...

    def extend(self, *, trials: int | None = None, hours: float | None = None, epochs: int | None = None) -> None:
        """Add to the budget. Raises UserError if the search has no such limit."""
        ...

    def resume(
        self, *, data: str | None = None, external: str | None = None, cache: str | None = None, ray: str | None = None
    ) -> str:
        """Resume the search with the data it was started with.

        ``data`` and ``external`` are new places of the dataset and the external images. ``cache`` is the folder for decoded
        images on the machines that train. ``ray`` is a Ray for a driver in this process to join.

        A driver in this process returns `finished`, `paused`, `stopped` or `interrupted` when it ends. A job on a cluster
        returns `submitted` at once. Raises UserError while another driver runs the search.
        """
        ...
