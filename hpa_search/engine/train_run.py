"""Ray Train's runs as slots need them: without idle processes, and with none that outlives its run.

- The controller's cleaner is `cleaner.SelfStartingCleaner`.
- The callback that shards Ray's datasets is left out: it costs a process for each slot.
- A group of workers that cannot be connected gives its resources back.
"""

import ray
from ray.actor import ActorHandle
from ray.train.torch import TorchTrainer

from hpa_search.engine.cleaner import SelfStartingCleaner
from hpa_search.engine.ray_private import (
    DatasetsCallback,
    RayTrainCallback,
    TrainController,
    TrainRunContext,
    WorkerGroup,
    placement_group_callback,
)


class _Workers(WorkerGroup):
    """A group that frees its resources if it cannot connect: NCCL fails, or a port is taken.

    Ray Train 2.60 frees them only before that point. The next attempt would wait for resources that nobody uses.
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
    """Runs in a starting controller: notes it in the mailbox, and puts our parts in place."""

    def __init__(self, mailbox: ActorHandle, slot: int) -> None:
        super().__init__()
        self._mailbox, self._slot = mailbox, slot

    def after_controller_start(self, train_run_context: TrainRunContext) -> None:
        """Note the controller, replace the cleaner and the class of worker groups, then start as Ray does."""
        self._mailbox.controller_started.remote(self._slot, ray.get_runtime_context().current_actor)
        placement_group_callback.PlacementGroupCleaner = SelfStartingCleaner
        TrainController.worker_group_cls = _Workers
        super().after_controller_start(train_run_context)


class SlotTrainer(TorchTrainer):
    """The TorchTrainer of a slot; its loop's config holds the `mailbox` and the index of the `slot`."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        replaced = (placement_group_callback.PlacementGroupCleanerCallback, DatasetsCallback)
        start = _Start(self.train_loop_config["mailbox"], self.train_loop_config["slot"])
        return [callback for callback in super()._create_default_callbacks() if type(callback) not in replaced] + [start]
