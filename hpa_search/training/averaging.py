"""A running average of a network's weights (Polyak averaging), which is scored and kept in the network's place."""

import copy

import torch
from torch import nn


class AveragedNetwork:
    """Keep the exponential moving average of ``network``'s weights and statistics, with ``decay`` in (0, 1).

    Early on, the decay is (1 + updates) / (10 + updates) if that is less. The average so forgets the random initial weights
    soon. Raises ValueError for a ``decay`` out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Average in the weights of the trained ``network``, after a step."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        averages, currents = [], []
        for average, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                currents.append(current)
            else:
                average.copy_(current)
        torch._foreach_lerp_(averages, currents, 1 - decay)
        self.updates += 1
