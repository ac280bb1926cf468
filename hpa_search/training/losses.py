"""Losses on logits for many labels at once; each is a mean over images and classes, as one number.

A new loss is one function ``build(config, weights, device) -> Loss``, registered here. A setting of its own is one field of
`TrialConfig` with a `When`, and a row in search_spaces/README.md.

In the formulas, p = sigmoid(logit) is the probability of a label. y is 1 if the label is set, else 0. w+ and w- are the class
weights of the positive and the negative term. They act on every loss but soft F1, which says why. Powers and logarithms of p
come from logsigmoid(logit). Values and gradients so stay finite where p rounds to 0 or 1.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from hpa_search.config import TrialConfig
from hpa_search.registry import Registry
from hpa_search.training.class_weights import ClassWeights

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes float32 logits (b, k) and targets (b, k) of 0 and 1; returns a scalar."""

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes logits (b, k); returns each label's cost if it is set, and if it is not, both (b, k)."""

LOSSES: Registry[Callable[[TrialConfig, ClassWeights, torch.device | None], Loss]] = Registry("loss")

MARGIN_POSITIVE, MARGIN_NEGATIVE, DOWN_WEIGHT = 0.9, 0.1, 0.5
"""m+, m- and lambda of the margin loss (Sabour et al. 2017, section 3)."""

LEAST_BASE = 1e-12
"""The least base of a power. An exponent below 1 would make the slope at 0 infinite."""


def build_loss(config: TrialConfig, weights: ClassWeights, device: torch.device | None = None) -> Loss:
    """Return the loss that ``config`` names, with its class weights on ``device``.

    The loss takes logits and targets of all 28 classes, and averages over the classes that ``weights`` uses. The other
    classes have no gradient. Raises ValueError for a name that is not registered.
    """
    used = weights.used
    if used.all():
        return LOSSES[config.loss](config, weights, device)
    inner = LOSSES[config.loss](config, _restricted(weights), device)
    columns = torch.as_tensor(np.flatnonzero(used), device=device)
    return lambda logits, targets: inner(logits.index_select(1, columns), targets.index_select(1, columns))


def _mean_of(terms: Terms, weights: ClassWeights, device: torch.device | None) -> Loss:
    """Return mean(w+ y t+ + w- (1 - y) t-) over images and classes as a loss; ``terms`` gives t+ and t-."""
    positive, negative = _as_tensor(weights.positive, device), _as_tensor(weights.negative, device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        set_term, unset_term = terms(logits)
        return (targets * set_term * positive + (1 - targets) * unset_term * negative).mean()

    return loss


@LOSSES.register("bce")
def _bce(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """BCE = -[w+ y log p + w- (1 - y) log(1 - p)]. With w- = 1 it is torch's with ``pos_weight=w+``."""
    return _mean_of(lambda logits: (-logsigmoid(logits), -logsigmoid(-logits)), weights, device)


@LOSSES.register("focal")
def _focal(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """FL = (1 - p_t)^gamma BCE (Lin et al. 2017, equation 4), where p_t is p if y is 1, else 1 - p.

    gamma 0 is BCE.
    """
    gamma = config.gamma
    assert gamma is not None

    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
        return -torch.exp(gamma * log_not_p) * log_p, -torch.exp(gamma * log_p) * log_not_p

    return _mean_of(terms, weights, device)


@LOSSES.register("focal_poster_literal")
def _focal_poster_literal(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """p_t^gamma BCE, a poster's misprint of the focal loss (Pompey and Solomos, CS230 2018); only to replay it.

    It inverts the focal loss: it keeps the easy examples and silences the hard ones. A completely missed label costs nothing.
    """
    gamma = config.gamma
    assert gamma is not None

    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
        return -torch.exp(gamma * log_p) * log_p, -torch.exp(gamma * log_not_p) * log_not_p

    return _mean_of(terms, weights, device)


@LOSSES.register("margin")
def _margin(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """w+ y max(0, m+ - p)^2 + w- lambda (1 - y) max(0, p - m-)^2 (Sabour et al. 2017, equation 4), where p is ||v||.

    The capsule network's logits are the log odds of its capsules' lengths ||v||, so p is that length. For other networks p
    stands in for the length, an adaptation. The original sums over the classes; this loss averages.
    """

    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.sigmoid(logits)
        return relu(MARGIN_POSITIVE - length).square(), DOWN_WEIGHT * relu(length - MARGIN_NEGATIVE).square()

    return _mean_of(terms, weights, device)


@LOSSES.register("asymmetric")
def _asymmetric(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """-[w+ y (1 - p)^g+ log p + w- (1 - y) q^g- log(1 - q)], q = max(p - m, 0) (Ridnik et al. 2021, equation 7).

    g+ is `gamma_positive`, g- is `gamma_negative`, m is `probability_margin`. If all are 0, the loss is BCE. Gradients flow
    through the factors (1 - p)^g+ and q^g- too, as in timm's AsymmetricLossMultiLabel. Unlike timm and the paper, this loss
    averages over images and classes, and does not cut logarithms off at 1e-8.
    """
    gamma_positive, gamma_negative, margin = config.gamma_positive, config.gamma_negative, config.probability_margin
    assert gamma_positive is not None and gamma_negative is not None and margin is not None
    log_margin = _as_tensor(math.log(margin) if margin else -math.inf, device)

    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
        log_not_q = torch.logaddexp(log_not_p, log_margin).clamp(max=0)  # of 1 - q = min(1 - p + m, 1)
        log_q = torch.log((-torch.expm1(log_not_q)).clamp(min=LEAST_BASE))
        return -torch.exp(gamma_positive * log_not_p) * log_p, -torch.exp(gamma_negative * log_q) * log_not_q

    return _mean_of(terms, weights, device)


@LOSSES.register("soft_f1")
def _soft_f1(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """The mean over classes of one term each, over the n images of the batch.

    A class with a positive in the batch costs 1 - 2 sum(y p) / (sum(p) + sum(y)). That is one minus its F1, with counts of
    probabilities (Yin and Xiong's last stage). A class without positives costs its BCE, -w- sum(log(1 - p)) / n. Its soft F1
    would be 0 at any p (the competition's 11th place). Class weights leave the F1 terms alone. Macro F1 is a plain mean over
    classes, and F1 balances a class's two sides itself. The F1 terms lie within 0..1; their denominators are at least 1.
    """
    negative = _as_tensor(weights.negative, device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        p, positives = torch.sigmoid(logits), targets.sum(0)
        soft_f1 = 2 * (targets * p).sum(0) / (p.sum(0) + positives).clamp(min=1)
        bce = -logsigmoid(-logits).mean(0) * negative
        return torch.where(positives > 0, 1 - soft_f1, bce).mean()

    return loss


def _restricted(weights: ClassWeights) -> ClassWeights:
    """Return the weights of only the k classes in use, as arrays (k,)."""
    used = weights.used
    everything: NDArray[np.bool_] = used[used]
    return ClassWeights(weights.positive[used], weights.negative[used], everything)


def _as_tensor(values: ArrayLike, device: torch.device | None) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
