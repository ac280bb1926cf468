"""What a trial trains: its network, an update for each batch, and the average of its states where that is what is judged."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from hpa_search.config import TrialConfig
from hpa_search.models.build import Network
from hpa_search.models.freezing import apply_freeze
from hpa_search.training.averaging import AveragedNetwork
from hpa_search.training.checkpoint import Checkpoint, Trained
from hpa_search.training.device import Device
from hpa_search.training.gradients import backward, backward_together
from hpa_search.training.losses import Loss
from hpa_search.training.memory import Portion, is_out_of_memory
from hpa_search.training.optim import build_optimizer, set_learning_rate
from hpa_search.training.ranks import Ranks


class Learner:
    """Trains ``network`` on ``device`` as ``config`` says, together with the other ``ranks`` if there are any.

    ``micro_batch`` is how many images of a batch are worked on at a time; with several workers that is all of each one's.
    """

    def __init__(self, network: Network, config: TrialConfig, device: Device, ranks: Ranks, micro_batch: Portion) -> None:
        self._config, self._device, self._ranks, self._micro_batch = config, device, ranks, micro_batch
        self._network = network.to(device.device).to(memory_format=device.memory_format)
        self._optimizer = build_optimizer(self._network, config)
        self._average = AveragedNetwork(self._network, config.ema) if config.ema else None
        self._parallel: nn.Module = self._network
        self._trained: list[bool] = []

    @property
    def judged(self) -> Network:
        """The network as it is scored and kept: the average, where there is one."""
        return self._network if self._average is None else self._average.network  # type: ignore[return-value]

    def begin_epoch(self, freeze: str) -> None:
        """Get ready to train what ``freeze`` leaves to be trained."""
        apply_freeze(self._network, freeze)
        trained = [weight.requires_grad for weight in self._network.parameters()]
        if trained != self._trained:
            self._parallel, self._trained = self._ranks.parallel(self._network), trained

    def update(self, images: Tensor, labels: Tensor, batch: int, rate: float, loss_of: Loss) -> Tensor:
        """Update the weights once, with learning rate ``rate``; return the loss of the whole batch, still on the device.

        ``images`` and ``labels`` are this worker's share of the ``batch`` rows.
        """
        set_learning_rate(self._optimizer, rate)
        loss = self._backward(images, labels, batch, loss_of)
        if self._config.clip_norm is not None:
            clip_grad_norm_(self._network.parameters(), self._config.clip_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update(self._network)
        return loss

    def state(self) -> tuple[Mapping[str, Tensor], dict[str, Any], Trained | None]:
        """Return what a checkpoint keeps: the judged network, the optimizer, and the trained network if it is another."""
        trained = None if self._average is None else Trained(self._network.state_dict(), self._average.updates)
        return self.judged.state_dict(), self._optimizer.state_dict(), trained

    def load(self, checkpoint: Checkpoint) -> None:
        """Be what ``checkpoint`` kept."""
        self._optimizer.load_state_dict(checkpoint.optimizer)
        self.judged.load_state_dict(checkpoint.network)
        if self._average is not None:
            assert checkpoint.trained is not None
            self._average.updates = checkpoint.trained.updates
            self._network.load_state_dict(checkpoint.trained.network)

    def _backward(self, images: Tensor, labels: Tensor, batch: int, loss_of: Loss) -> Tensor:
        if self._ranks.several:
            with _only_whole(len(images), self._ranks.world):
                return backward_together(self._parallel, images, labels, batch, loss_of, self._device, self._ranks)
        return self._micro_batch.fit(
            len(images), lambda size: backward(self._network, images, labels, loss_of, self._device, size)
        )


@contextmanager
def _only_whole(images: int, workers: int) -> Iterator[None]:
    """Say why several workers do not go on with smaller micro-batches.

    One that runs out does so between two talks with the others, who wait for it; they could not be told without a talk more
    at every step, nor be called back from the middle of a backward pass.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"{images} images on each of {workers} workers are too many, and only a trial with one worker goes on with "
            f"smaller micro-batches; take more workers, one, or a smaller batch_size ({str(error).splitlines()[0]})"
        ) from error
