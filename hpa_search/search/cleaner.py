"""The cleaner of a Ray Train run, which ends with the run whatever moment a driver is killed at.

Beside each run's controller Ray Train 2.60 starts a detached actor that frees the workers' places when the controller dies. It
begins to look after it when the controller tells it to; where that is killed before, it stays, idle, for as long as the cluster.
Here it begins by itself. To be dropped when Ray's own does so. A module of its own, because its process imports that, and need
not wait for PyTorch.
"""

from typing import Any

from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner
from ray.util.placement_group import PlacementGroup


class SelfStartingCleaner(PlacementGroupCleaner):
    """A cleaner that looks after its controller from its first moment.

    Told to end, it does so at once; before its run's workers have their places, at its next look.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._registered: PlacementGroup | None = None
        self.start_monitoring()

    def register_placement_group(self, placement_group: PlacementGroup) -> None:
        """Look after another group from now on."""
        self._registered = placement_group
        super().register_placement_group(placement_group)

    def stop(self) -> None:
        """End, and let what sleeps until the next look wake up."""
        self._stop_event.set()
        if self._registered is not None:
            self._pg_queue.put(self._registered)
        super().stop()
