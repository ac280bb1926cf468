"""Losses on logits for many labels at once; a mean over images and classes, as one number.

A new loss is one function ``build(config, weights) -> Loss`` and its line in `LOSSES`.
"""

from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import logsigmoid

from hpa_search.config import TrialConfig
from hpa_search.training.class_weights import ClassWeights

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes float32 logits (b, 28) and targets (b, 28) of 0 and 1, returns a scalar."""


def build_loss(config: TrialConfig, weights: ClassWeights, device: torch.device | None = None) -> Loss:
    """Return the loss that ``config`` names, with its class weights on ``device``."""
    return LOSSES[config.loss](config, weights, device)


def _bce(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """BCE = -[w+ y log p + w- (1 - y) log(1 - p)]; with w- = 1 it is torch's with ``pos_weight=w+``."""
    positive, negative = _as_tensor(weights.positive, device), _as_tensor(weights.negative, device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return _mean(-logsigmoid(logits) * positive, -logsigmoid(-logits) * negative, targets)

    return loss


def _focal(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """FL = (1 - p_t)^gamma BCE (Lin et al. 2017, equation 4), class weights on its two terms; gamma 0 is BCE.

    The factor is exp(gamma log(1 - p_t)): unlike a power it has a finite gradient at p_t = 1 for every gamma.
    """
    gamma = config.gamma
    if gamma is None:
        raise ValueError("the focal loss needs a gamma")
    positive, negative = _as_tensor(weights.positive, device), _as_tensor(weights.negative, device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
        hard_positive, hard_negative = torch.exp(gamma * log_not_p), torch.exp(gamma * log_p)
        return _mean(-hard_positive * log_p * positive, -hard_negative * log_not_p * negative, targets)

    return loss


LOSSES: dict[str, Callable[[TrialConfig, ClassWeights, torch.device | None], Loss]] = {"bce": _bce, "focal": _focal}


def _mean(positive_term: Tensor, negative_term: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of the positive terms where targets are 1 and the negative terms where they are 0."""
    return (targets * positive_term + (1 - targets) * negative_term).mean()


def _as_tensor(values: ArrayLike, device: torch.device | None) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
