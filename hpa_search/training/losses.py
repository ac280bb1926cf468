"""Losses on logits for many labels at once; a mean over images and classes, as one number.

A new loss is one function ``build(config, weights, device) -> Loss``, registered here. A setting of its own is one field of
`TrialConfig` with a `When`, and a row in search_spaces/README.md.

In the formulas p = sigmoid(logit) is the probability of a label, y is 1 where it is set and 0 elsewhere, and w+ and w-
are the class weights of the positive and the negative term. They act on every loss but soft F1, which says why.
Powers and logarithms of p are taken from logsigmoid(logit): values and gradients stay finite where p rounds to 0 or 1.
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
"""Takes float32 logits (b, k) and targets (b, k) of 0 and 1, returns a scalar."""

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes logits (b, k), returns what each costs if its label is set, and if it is not, both (b, k)."""

LOSSES: Registry[Callable[[TrialConfig, ClassWeights, torch.device | None], Loss]] = Registry("loss")

MARGIN_POSITIVE, MARGIN_NEGATIVE, DOWN_WEIGHT = 0.9, 0.1, 0.5
"""m+, m- and lambda of the margin loss (Sabour et al. 2017, section 3)."""

LEAST_BASE = 1e-12
"""A power of less than this is taken of this instead: with an exponent below 1 its slope at 0 would be infinite."""


def build_loss(config: TrialConfig, weights: ClassWeights, device: torch.device | None = None) -> Loss:
    """Return the loss that ``config`` names, with its class weights on ``device``.

    It takes logits and targets of all 28 classes and is the mean over those that ``weights`` says are used: the others
    have no gradient. Raises ValueError for a name that is not registered.
    """
    used = weights.used
    if used.all():
        return LOSSES[config.loss](config, weights, device)
    inner = LOSSES[config.loss](config, _restricted(weights), device)
    columns = torch.as_tensor(np.flatnonzero(used), device=device)
    return lambda logits, targets: inner(logits.index_select(1, columns), targets.index_select(1, columns))


def _mean_of(terms: Terms, weights: ClassWeights, device: torch.device | None) -> Loss:
    """Return the loss mean(w+ y t+ + w- (1 - y) t-) over images and classes, ``terms`` giving t+ and t-."""
    positive, negative = _as_tensor(weights.positive, device), _as_tensor(weights.negative, device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        set_term, unset_term = terms(logits)
        return (targets * set_term * positive + (1 - targets) * unset_term * negative).mean()

    return loss


@LOSSES.register("bce")
def _bce(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """BCE = -[w+ y log p + w- (1 - y) log(1 - p)]; with w- = 1 it is torch's with ``pos_weight=w+``."""
    return _mean_of(lambda logits: (-logsigmoid(logits), -logsigmoid(-logits)), weights, device)


@LOSSES.register("focal")
def _focal(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """FL = (1 - p_t)^gamma BCE (Lin et al. 2017, equation 4), p_t being p where y is 1 and 1 - p elsewhere.

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
    """p_t^gamma BCE, as a poster prints the focal loss (Pompey and Solomos, CS230 2018): to replay it, and for no other use.

    It is the focal loss inverted: it keeps the easy examples and silences the hard ones, and a label that is missed
    completely costs nothing.
    """
    gamma = config.gamma
    assert gamma is not None

    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)
        return -torch.exp(gamma * log_p) * log_p, -torch.exp(gamma * log_not_p) * log_not_p

    return _mean_of(terms, weights, device)


@LOSSES.register("margin")
def _margin(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """w+ y max(0, m+ - p)^2 + w- lambda (1 - y) max(0, p - m-)^2 (Sabour et al. 2017, equation 4), p being ||v||.

    Our capsule network hands out the log odds of the lengths ||v|| of its capsules, so that p is that length; for any
    other network p stands in its place, an adaptation. The original is summed over the classes, this is their mean.
    """

    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.sigmoid(logits)
        return relu(MARGIN_POSITIVE - length).square(), DOWN_WEIGHT * relu(length - MARGIN_NEGATIVE).square()

    return _mean_of(terms, weights, device)


@LOSSES.register("asymmetric")
def _asymmetric(config: TrialConfig, weights: ClassWeights, device: torch.device | None) -> Loss:
    """-[w+ y (1 - p)^g+ log p + w- (1 - y) q^g- log(1 - q)], q = max(p - m, 0) (Ridnik et al. 2021, equation 7).

    g+ is `gamma_positive`, g- `gamma_negative`, m `probability_margin`; all of them 0 is BCE. As in timm's
    AsymmetricLossMultiLabel the factors (1 - p)^g+ and q^g- are differentiated too; unlike there and in the paper it is
    the mean over images and classes, not the sum, and logarithms are not cut off at 1e-8.
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

    A class with a positive in the batch: 1 - 2 sum(y p) / (sum(p) + sum(y)), one minus its F1 with counts of
    probabilities (Yin and Xiong's last stage). A class without: its BCE, -w- sum(log(1 - p)) / n, for its soft F1 is 0
    whatever p is (the competition's 11th place). Class weights leave the F1 terms alone: macro F1 is a plain mean over
    classes, and F1 has its own balance of a class's two sides. They lie within 0..1, their denominators are at least 1.
    """
    negative = _as_tensor(weights.negative, device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        p, positives = torch.sigmoid(logits), targets.sum(0)
        soft_f1 = 2 * (targets * p).sum(0) / (p.sum(0) + positives).clamp(min=1)
        bce = -logsigmoid(-logits).mean(0) * negative
        return torch.where(positives > 0, 1 - soft_f1, bce).mean()

    return loss


def _restricted(weights: ClassWeights) -> ClassWeights:
    """Return ``weights`` of the k classes in use alone, in arrays (k,)."""
    used = weights.used
    everything: NDArray[np.bool_] = used[used]
    return ClassWeights(weights.positive[used], weights.negative[used], everything)


def _as_tensor(values: ArrayLike, device: torch.device | None) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
