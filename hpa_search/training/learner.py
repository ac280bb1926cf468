"""The learning part of a trial: the network, its update for each batch, and the average of its states."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from hpa_search.config import TrialConfig
from hpa_search.models.build import Network
from hpa_search.models.freezing import apply_freeze
from hpa_search.training.averaging import AveragedNetwork
from hpa_search.training.checkpoint import Checkpoint, Unaveraged
from hpa_search.training.device import Device
from hpa_search.training.gradients import Rows, backward
from hpa_search.training.losses import Loss
from hpa_search.training.memory import FewerAtATimeError, MicroBatch, is_out_of_memory
from hpa_search.training.optim import build_optimizer, set_learning_rate
from hpa_search.training.ranks import Ranks


class Learner:
    """Trains ``network`` on ``device`` as ``config`` says, together with the other ``ranks``, if any.

    ``micro_batch`` is the number of images of a batch that each worker works on at a time.
    """

    def __init__(self, network: Network, config: TrialConfig, device: Device, ranks: Ranks, micro_batch: MicroBatch) -> None:
        self._config, self._device, self._ranks, self._micro_batch = config, device, ranks, micro_batch
        self._network = device.place(network)
        self._optimizer = build_optimizer(self._network, config)
        self._average = AveragedNetwork(self._network, config.ema) if config.ema else None
        self._parallel: nn.Module = self._network
        self._trained: list[bool] = []

    @property
    def judged(self) -> Network:
        """The network that is scored and kept: the average if there is one."""
        return self._network if self._average is None else self._average.network  # type: ignore[return-value]

    def begin_epoch(self, freeze: str) -> None:
        """Prepare to train the weights that ``freeze`` leaves free."""
        apply_freeze(self._network, freeze)
        # A new wrapper costs time, and is needed only if other weights train.
        trained = [weight.requires_grad for weight in self._network.parameters()]
        if trained != self._trained:
            self._parallel, self._trained = self._ranks.parallel(self._network), trained

    def update(self, images: Tensor, labels: Tensor, batch: int, rate: float, loss_of: Loss) -> Tensor:
        """Update the weights once, with learning rate ``rate``. Return the whole batch's loss, still on the device.

        ``images`` and ``labels`` are this worker's share of the ``batch`` rows. Raises FewerAtATimeError if one of several
        workers runs out of memory in its forward or backward pass.
        """
        set_learning_rate(self._optimizer, rate)
        loss = self._backward(images, labels, batch, loss_of)
        if self._config.clip_norm is not None:
            clip_grad_norm_(self._network.parameters(), self._config.clip_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        return loss

    def state(self) -> tuple[Mapping[str, Tensor], dict[str, Any], Unaveraged | None]:
        """Return what a checkpoint keeps: the judged network, the optimizer, and the network in training if it differs."""
        trained = None if self._average is None else Unaveraged(self._network.state_dict(), self._average.updates)
        return self.judged.state_dict(), self._optimizer.state_dict(), trained

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore the state that ``checkpoint`` holds."""
        self._optimizer.load_state_dict(checkpoint.optimizer)
        self.judged.load_state_dict(checkpoint.network)
        if self._average is not None:
            assert checkpoint.trained is not None
            self._average.updates = checkpoint.trained.updates
            self._network.load_state_dict(checkpoint.trained.network)

    def _backward(self, images: Tensor, labels: Tensor, batch: int, loss_of: Loss) -> Tensor:
        def work(size: int) -> Tensor:
            return backward(self._parallel, images, labels, loss_of, self._device, Rows(batch, size, self._ranks))

        # One worker alone may retry here. Of several, the others already wait in a collective: all must start again.
        if not self._ranks.several:
            return self._micro_batch.fit(len(images), work)
        try:
            return work(self._micro_batch.size)
        except Exception as error:
            if is_out_of_memory(error) and (fewer := self._micro_batch.fewer(len(images))):
                raise FewerAtATimeError(fewer) from error
            raise
