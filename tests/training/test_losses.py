import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

from hpa_search.config import TrialConfig
from hpa_search.training.class_weights import ClassWeights
from hpa_search.training.losses import LOSSES, build_loss

ONES = ClassWeights(np.ones(28), np.ones(28))
RANDOM = np.random.default_rng(0)
POSITIVE = ClassWeights(RANDOM.uniform(0.3, 8, 28), np.ones(28))
BOTH = ClassWeights(*[RANDOM.uniform(0.5, 1, 28)] * 2)
BCE = TrialConfig(loss="bce")


def focal(gamma: float) -> TrialConfig:
    return TrialConfig(loss="focal", gamma=gamma)


def sample(scale=3.0):
    generator = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(40, 28, generator=generator)).requires_grad_()
    return logits, (torch.rand(40, 28, generator=generator) < 0.2).float()


def assert_same(ours, reference, logits):
    """Values and gradients agree."""
    torch.testing.assert_close(ours, reference)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (ours, reference)]
    torch.testing.assert_close(*gradients)


def test_bce_is_torch_s():
    logits, targets = sample()
    assert_same(build_loss(BCE, ONES)(logits, targets), binary_cross_entropy_with_logits(logits, targets), logits)


def test_weights_on_the_positive_term_are_torch_s_pos_weight():
    logits, targets = sample()
    reference = binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(POSITIVE.positive).float())
    assert_same(build_loss(BCE, POSITIVE)(logits, targets), reference, logits)


def test_weights_on_both_terms_are_torch_s_weight():
    logits, targets = sample()
    reference = binary_cross_entropy_with_logits(logits, targets, weight=torch.tensor(BOTH.positive).float())
    assert_same(build_loss(BCE, BOTH)(logits, targets), reference, logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_focal_is_torchvision_s(gamma):
    logits, targets = sample()
    reference = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=gamma, reduction="mean")
    assert_same(build_loss(focal(gamma), ONES)(logits, targets), reference, logits)


def test_weighted_focal_is_the_weighted_mean_of_torchvision_s():
    logits, targets = sample()
    weights = targets * torch.tensor(POSITIVE.positive).float() + (1 - targets)
    reference = (weights * sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2)).mean()
    assert_same(build_loss(focal(2), POSITIVE)(logits, targets), reference, logits)


@pytest.mark.parametrize("weights", [ONES, POSITIVE, BOTH])
def test_focal_without_gamma_equals_bce(weights):
    logits, targets = sample()
    assert torch.equal(build_loss(focal(0), weights)(logits, targets), build_loss(BCE, weights)(logits, targets))


def test_focal_silences_easy_examples_and_keeps_hard_ones():
    """A published variant has p_t^gamma in place of (1 - p_t)^gamma and does the reverse."""
    targets = torch.ones(1, 28)
    shares = {}
    for name, logit in (("easy", 4.0), ("hard", -4.0)):
        logits = torch.full((1, 28), logit)
        shares[name] = float(build_loss(focal(2), ONES)(logits, targets) / build_loss(BCE, ONES)(logits, targets))
    assert shares["easy"] < 0.001
    assert shares["hard"] > 0.95


@pytest.mark.parametrize("config", [BCE, focal(0.5), focal(2), focal(10)])
@pytest.mark.parametrize("scale", [0.0, 1e2, 1e4])
def test_huge_logits_stay_finite(config, scale):
    logits, targets = sample(scale)
    loss = build_loss(config, POSITIVE)(logits, targets)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_every_loss_of_the_configuration_exists():
    assert set(LOSSES) == set(TrialConfig.model_fields["loss"].annotation.__args__)
