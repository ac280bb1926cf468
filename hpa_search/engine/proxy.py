"""Tune's view of a leg: a thin Trainable that is cheap to start, holds nothing, and may die at any time."""

from typing import Any

import ray
from ray import tune


class Proxy(tune.Trainable):
    """Hands its leg to the exchange and passes its epochs on to Tune, those that have come since at each step."""

    def setup(self, config: dict[str, Any]) -> None:
        """Say hello to the exchange, once a process."""
        self._exchange = ray.get_actor(config["exchange"])
        ray.get(self._exchange.hello.remote())
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self._leg, self._epoch = config["leg"], config["leg"]["reported"]
        self._started: ray.ObjectRef | None = None

    def _start(self) -> None:
        if self._started is None:
            self._started = self._exchange.start.remote(self._leg)

    def step(self) -> dict[str, Any]:
        """Return the rows of the epochs since, the last of which may end the leg."""
        self._start()
        ray.get(self._started)
        rows = ray.get(self._exchange.next.remote(self._leg["number"], self._epoch))
        self._epoch = max([self._epoch, *(row["epoch"] for row in rows if "epoch" in row)])
        return {"number": self._leg["number"], "rows": rows}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next leg in the same process."""
        self._begin(new_config)
        # Its slot waits, and Tune asks for a step only when it has heard of this. A process that is new may yet be dropped
        # for another that has become free, and hands its leg over when it is asked.
        self._start()
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing of a search is kept by Tune."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing of a search is kept by Tune."""
