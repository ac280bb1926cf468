"""Ray Train's runs as slots need them: nothing beside them that a slot has no use for, and nothing that outlives them.

The controller's cleaner is `cleaner.SelfStartingCleaner`. What hands out shards of Ray's datasets is left away: it is one
process more for each slot. A group of workers that could not be connected gives its places back.
"""

import ray
from ray.actor import ActorHandle
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.context import TrainRunContext
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.worker_group import WorkerGroup

from hpa_search.engine.cleaner import SelfStartingCleaner


class _Workers(WorkerGroup):
    """A group that, when it is up and cannot be connected (NCCL fails, a port is taken), ends and frees its places.

    Ray Train 2.60 frees them only before that point: whoever tries again, would wait for places that nobody is in.
    """

    def _start(self) -> None:
        try:
            super()._start()
        except Exception:
            if self.has_started():
                self.get_worker_group_state().shutdown()
                self._clear_state()
            raise


class _Start(placement_group_callback.PlacementGroupCleanerCallback):
    """What happens in the controller's process when it is up: the exchange hears of it, the cleaner starts, groups are ours."""

    def __init__(self, exchange: ActorHandle, slot: int) -> None:
        super().__init__()
        self._exchange, self._slot = exchange, slot

    def after_controller_start(self, train_run_context: TrainRunContext) -> None:
        """Act on the start."""
        self._exchange.controller_started.remote(self._slot, ray.get_runtime_context().current_actor)
        placement_group_callback.PlacementGroupCleaner = SelfStartingCleaner
        TrainController.worker_group_cls = _Workers
        super().after_controller_start(train_run_context)


class SlotTrainer(TorchTrainer):
    """A TorchTrainer of a slot's own; its loop's config names ``exchange`` and ``slot``."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        replaced = (placement_group_callback.PlacementGroupCleanerCallback, DatasetsCallback)
        start = _Start(self.train_loop_config["exchange"], self.train_loop_config["slot"])
        return [one for one in super()._create_default_callbacks() if type(one) not in replaced] + [start]
