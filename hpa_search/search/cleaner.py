"""The cleaner of a Ray Train run, which ends with the run whatever moment a driver is killed at.

Beside each run's controller Ray Train 2.60 starts a detached actor that frees the workers' places when the controller dies. It
begins to look after it when the controller tells it to; where that is killed before, it stays, idle, for as long as the cluster.
It asks the Ray that the environment names, or the last one that `ray start` brought up on this host: where that is another one,
it does not know the controller and takes the places of a run that lives; where it is gone, it never looks again.
Here it begins by itself, asks the Ray that it is in, and goes on looking. To be dropped when Ray's own does so. A module of its
own, because its process imports that, and need not wait for PyTorch.
"""

import logging
import os
from typing import Any

import ray
from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner
from ray.util.placement_group import PlacementGroup

_log = logging.getLogger(__name__)


class SelfStartingCleaner(PlacementGroupCleaner):
    """A cleaner that looks after its controller from its first moment.

    Told to end, it does so at once; before its run's workers have their places, at its next look.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._registered: PlacementGroup | None = None
        # Ray's State API goes by these two, and the first comes before the second.
        os.environ.pop("RAY_API_SERVER_ADDRESS", None)
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        self.start_monitoring()

    def register_placement_group(self, placement_group: PlacementGroup) -> None:
        """Look after another group from now on."""
        self._registered = placement_group
        super().register_placement_group(placement_group)

    def _monitor_loop(self) -> None:
        while not self._exiting:
            try:
                super()._monitor_loop()
            except Exception:  # whatever it is that Ray cannot say now, it can later
                _log.warning("The controller's state is not known; it is asked for again.", exc_info=True)
                self._look_again()

    def _look_again(self) -> None:
        self._stop_event.wait(self._check_interval_s)
        if self._registered is not None:
            self._pg_queue.put(self._registered)

    def stop(self) -> None:
        """End, and let what sleeps until the next look wake up."""
        self._stop_event.set()
        if self._registered is not None:
            self._pg_queue.put(self._registered)
        super().stop()
