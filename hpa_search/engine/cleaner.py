"""The cleaner of a Ray Train run. It ends with its run, at whatever moment the driver is killed.

Beside each run's controller Ray Train 2.60 starts a detached actor, the cleaner. It frees the workers' resources when the
controller dies. Ray's own cleaner fails in two ways:

- It polls only after the controller asks it to. If the controller is killed before, the cleaner idles as long as the
  cluster lives.
- It asks the dashboard in the environment, or of the last `ray start` on this host. That may be the wrong cluster. It then
  frees the resources of a live run. If that cluster is gone, it stops polling without exiting.

This cleaner polls from its first moment and asks the Ray that it runs in. Drop it when Ray's own does so. It has a module of
its own, so that its process need not import PyTorch.
"""

from typing import Any

from ray.util.placement_group import PlacementGroup

from hpa_search.engine.ray_private import PlacementGroupCleaner, actors


class SelfStartingCleaner(PlacementGroupCleaner):
    """A cleaner that watches its controller from its first moment, and exits when the controller is dead."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._registered: PlacementGroup | None = None
        self.start_monitoring()

    def register_placement_group(self, placement_group: PlacementGroup) -> None:
        """Free this group, and not the one before, when the controller dies."""
        self._registered = placement_group

    def _monitor_loop(self) -> None:
        while not self._stop_event.wait(self._check_interval_s):
            # Ray also answers with an empty record when it does not know, so an empty record is not a death.
            if actors(self._controller_actor_id).get("State") == "DEAD":
                self._cleanup_placement_group(self._registered)
                break
        self._exit()
