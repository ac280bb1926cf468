"""A running average of a network's weights (Polyak averaging), which is scored and kept in the network's place."""

import copy

import torch
from torch import nn


class AveragedNetwork:
    """Keep the exponential moving average of ``network``'s weights and statistics, with ``decay`` in (0, 1).

    ``network`` is in its place: on its device and in its layout.

    Early on, the decay is (1 + updates) / (10 + updates) if that is less. The average so forgets the random initial weights
    soon. Raises ValueError for a ``decay`` out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay
        # The tensors stay the same: whatever changes a network's weights here does so in place.
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counted = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Average in the weights of the trained network, after a step. On a GPU that is a few kernels, not a few a layer."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        averages, currents = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(averages, currents, 1 - decay)
        if self._counted:
            counts, current_counts = zip(*self._counted, strict=True)
            torch._foreach_copy_(counts, current_counts)
        self.updates += 1
