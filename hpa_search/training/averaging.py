"""A running average of a network's weights, scored and kept in place of the network (Polyak averaging)."""

import copy

import torch
from torch import nn


class AveragedNetwork:
    """The exponential moving average of ``network``'s weights and statistics, with ``decay`` in (0, 1).

    In the first updates the decay is (1 + updates) / (10 + updates) where that is less, so that the random weights of
    the beginning are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights of ``network``, the one that is trained, as they are after a step."""
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
