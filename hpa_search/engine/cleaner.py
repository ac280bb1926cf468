"""The cleaner of a Ray Train run, which ends with the run whatever moment a driver is killed at.

Beside each run's controller Ray Train 2.60 starts a detached actor that frees the workers' places when the controller dies. It
begins to look after it when the controller tells it to; where that is killed before, it stays, idle, for as long as the cluster.
It asks a dashboard: that of the Ray which the environment names, or of the last one that `ray start` brought up on this host.
Where this is another one, which does not know the controller, it takes the places of a run that lives; where it is gone, it ends
to look, and stays. Here it begins by itself, and asks the Ray that it is in. To be dropped when Ray's own does so. A module of
its own, because its process imports that, and need not wait for PyTorch.
"""

from typing import Any

from ray._private.state import actors
from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner
from ray.util.placement_group import PlacementGroup


class SelfStartingCleaner(PlacementGroupCleaner):
    """A cleaner that looks after its controller from its first moment, and ends at once when told to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._registered: PlacementGroup | None = None
        self.start_monitoring()

    def register_placement_group(self, placement_group: PlacementGroup) -> None:
        """Look after another group from now on."""
        self._registered = placement_group

    def _monitor_loop(self) -> None:
        while not self._stop_event.wait(self._check_interval_s):
            # An actor of which nothing is known is none that died: so Ray also says that it could not find out.
            if actors(self._controller_actor_id).get("State") == "DEAD":
                self._cleanup_placement_group(self._registered)
                break
        self._exit()
