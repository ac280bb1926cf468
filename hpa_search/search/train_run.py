"""Ray Train's runs as slots need them: nothing beside them that a slot has no use for, and nothing that outlives them.

The controller's cleaner is `cleaner.SelfStartingCleaner`. What hands out shards of Ray's datasets is left away: it is one
process more for each slot.
"""

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.context import TrainRunContext

from hpa_search.search.cleaner import SelfStartingCleaner


class _CleanerCallback(placement_group_callback.PlacementGroupCleanerCallback):
    def after_controller_start(self, train_run_context: TrainRunContext) -> None:
        """Start the cleaner, in the controller's process."""
        placement_group_callback.PlacementGroupCleaner = SelfStartingCleaner
        super().after_controller_start(train_run_context)


class SlotTrainer(TorchTrainer):
    """A TorchTrainer of a slot's own."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        replaced = (placement_group_callback.PlacementGroupCleanerCallback, DatasetsCallback)
        return [one for one in super()._create_default_callbacks() if type(one) not in replaced] + [_CleanerCallback()]
