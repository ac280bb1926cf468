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
        self._leg, self._epoch, self._handed = config["leg"], config["leg"]["reported"], False

    def step(self) -> dict[str, Any]:
        """Return the rows of the epochs since, the last of which may end the leg."""
        if not self._handed:
            ray.get(self._exchange.start.remote(self._leg))
            self._handed = True
        rows = ray.get(self._exchange.next.remote(self._leg["number"], self._epoch))
        self._epoch = max([self._epoch, *(row["epoch"] for row in rows if "epoch" in row)])
        return {"number": self._leg["number"], "rows": rows}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next leg in the same process."""
        self._begin(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing of a search is kept by Tune."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing of a search is kept by Tune."""
