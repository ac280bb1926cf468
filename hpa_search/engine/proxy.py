"""The proxy: Tune's view of a leg. It is a Trainable that starts cheaply, holds nothing, and may die at any time."""

from typing import Any

import ray
from ray import tune

from hpa_search.search.leg import EpochReport, Leg


class Proxy(tune.Trainable):
    """Hands its leg to the mailbox; each step passes the events that came since to Tune."""

    def setup(self, config: dict[str, Any]) -> None:
        """Say hello to the mailbox, once a process. ``config``: `leg`, and the name of the `mailbox`."""
        self._mailbox = ray.get_actor(config["mailbox"])
        ray.get(self._mailbox.hello.remote())
        self._begin(config["leg"])

    def _begin(self, leg: Leg) -> None:
        self._leg, self._epoch = leg, leg.reported
        self._started: ray.ObjectRef | None = None

    def _start(self) -> None:
        if self._started is None:
            self._started = self._mailbox.start.remote(self._leg)

    def step(self) -> dict[str, Any]:
        """Return `{"leg": ..., "events": [...]}`, one event at least; the last may end the leg."""
        self._start()
        ray.get(self._started)
        events = ray.get(self._mailbox.next.remote(self._leg, self._epoch))
        self._epoch = max([self._epoch, *(event.epoch for event in events if isinstance(event, EpochReport))])
        return {"leg": self._leg, "events": events}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next leg in the same process."""
        self._begin(new_config["leg"])
        # Start now: its slot waits, and Tune asks for a step only after it has heard of this. A new process waits for that
        # step instead, because Tune may drop it for a process that has become free.
        self._start()
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the ledger has it."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: the ledger has it."""
