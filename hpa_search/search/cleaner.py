"""The cleaner of a Ray Train run, which ends with the run whatever moment a driver is killed at.

Beside each run's controller Ray Train 2.60 starts a detached actor that frees the workers' places when the controller dies. It
begins to look after it when the controller tells it to; where that is killed before, it stays, idle, for as long as the cluster.
Here it begins by itself. To be dropped when Ray's own does so. A module of its own, because its process imports that, and need
not wait for PyTorch.
"""

from typing import Any

from ray.train.v2._internal.execution.controller.placement_group_cleaner import PlacementGroupCleaner


class SelfStartingCleaner(PlacementGroupCleaner):
    """A cleaner that looks after its controller from its first moment."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.start_monitoring()
