import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from timm.loss import AsymmetricLossMultiLabel
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

from hpa_search.config import CONDITIONS, TrialConfig
from hpa_search.training.class_weights import ClassWeights
from hpa_search.training.losses import LOSSES, build_loss

ONES = ClassWeights(np.ones(28), np.ones(28))
RANDOM = np.random.default_rng(0)
POSITIVE = ClassWeights(RANDOM.uniform(0.3, 8, 28), np.ones(28))
BOTH = ClassWeights(*[RANDOM.uniform(0.5, 1, 28)] * 2)
BCE = TrialConfig(loss="bce")


MARGIN = TrialConfig(loss="margin")
SOFT_F1 = TrialConfig(loss="soft_f1")


def focal(gamma: float) -> TrialConfig:
    return TrialConfig(loss="focal", gamma=float(gamma))


def asymmetric(positive: float, negative: float, margin: float) -> TrialConfig:
    settings = {"gamma_positive": positive, "gamma_negative": negative, "probability_margin": margin}
    return TrialConfig(loss="asymmetric", **{name: float(value) for name, value in settings.items()})


EVERY = [BCE, focal(2), TrialConfig(loss="focal_poster_literal"), MARGIN, asymmetric(1, 4, 0.05), SOFT_F1]
"""Each loss, with usual settings."""


def str_of(config: TrialConfig) -> str:
    own = [getattr(config, name) for name, when in CONDITIONS.items() if when.parent == "loss" and when.holds(config.loss)]
    return " ".join([config.loss, *map(str, own)])


def only(*classes: int) -> ClassWeights:
    """Weights of 1 that leave the loss these classes alone."""
    return ClassWeights(np.ones(28), np.ones(28), np.isin(np.arange(28), classes))


def padded(columns: torch.Tensor) -> torch.Tensor:
    """``columns`` (b, k) as the first of 28, the others 0."""
    return torch.cat([columns, torch.zeros(len(columns), 28 - columns.shape[1])], dim=1)


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


def test_the_poster_s_focal_is_its_formula_and_the_reverse_of_the_focal_loss():
    logits, targets = sample()
    config = TrialConfig(loss="focal_poster_literal", gamma=2.0)
    p = torch.sigmoid(logits)
    likely = targets * p + (1 - targets) * (1 - p)
    reference = (likely**2 * binary_cross_entropy_with_logits(logits, targets, reduction="none")).mean()
    assert_same(build_loss(config, ONES)(logits, targets), reference, logits)
    easy, hard = torch.full((1, 28), 1.0), torch.full((1, 28), -9.0)
    assert build_loss(config, ONES)(easy, torch.ones(1, 28)) > 10 * build_loss(config, ONES)(hard, torch.ones(1, 28))


def test_margin_loss_by_hand():
    """Lengths .95 and .5 with the label cost 0 and .4^2, .05 and .5 without it cost 0 and .5 x .4^2."""
    lengths, targets = torch.tensor([[0.95, 0.5], [0.05, 0.5]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    found = build_loss(MARGIN, only(0, 1))(padded(torch.logit(lengths)), padded(targets))
    assert float(found) == pytest.approx((0.16 + 0.08) / 4, rel=1e-5)


@pytest.mark.parametrize("settings", [(1, 4, 0.05), (0, 4, 0.05), (0, 0, 0), (1, 4, 0), (0, 0, 0.2), (2, 1, 0.5)])
def test_asymmetric_is_the_mean_of_what_timm_sums(settings):
    """In one row of everything timm's sum over classes is the sum over all."""
    gamma_positive, gamma_negative, margin = settings
    logits, targets = sample()
    timm_s = AsymmetricLossMultiLabel(gamma_neg=gamma_negative, gamma_pos=gamma_positive, clip=margin)
    reference = timm_s(logits.reshape(1, -1), targets.reshape(1, -1)) / logits.numel()
    assert_same(build_loss(asymmetric(*settings), ONES)(logits, targets), reference, logits)


def test_asymmetric_ignores_negatives_within_the_margin():
    logits = torch.tensor([[-3.0, -2.9]], requires_grad=True)  # probabilities .047 and .052
    inputs, targets = padded(logits), torch.zeros(1, 28)
    build_loss(asymmetric(1, 4, 0.05), only(0, 1))(inputs, targets).backward()
    assert logits.grad[0, 0] == 0
    assert logits.grad[0, 1] > 0


def test_soft_f1_by_hand_with_a_class_absent_from_the_batch():
    """Class 0: F1 = 2 x .8 / (.8 + .4 + 1); class 1 has no positive and costs its BCE."""
    p, targets = torch.tensor([[0.8, 0.2], [0.4, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    expected = (1 - 1.6 / 2.2 - (math.log(0.8) + math.log(0.5)) / 2) / 2
    assert float(build_loss(SOFT_F1, only(0, 1))(padded(torch.logit(p)), padded(targets))) == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 10_000))
def test_soft_f1_of_sure_predictions_is_scikit_learn_s_macro_f1(seed):
    random = np.random.default_rng(seed)
    truth, guess = random.random((12, 28)) < 0.3, random.random((12, 28)) < 0.3
    truth[0] |= ~truth.any(axis=0)  # every class occurs
    found = build_loss(SOFT_F1, ONES)(torch.from_numpy(200.0 * guess - 100).float(), torch.from_numpy(truth).float())
    assert 1 - float(found) == pytest.approx(f1_score(truth, guess, average="macro", zero_division=0), abs=1e-6)


def test_soft_f1_weights_absent_classes_alone_and_lets_them_learn():
    logits, targets = sample()
    targets[:, ::2] = 0
    targets[0, 1::2] = 1
    plain, weighted = (build_loss(SOFT_F1, weights)(logits, targets) for weights in (ONES, BOTH))
    absent = -torch.nn.functional.logsigmoid(-logits[:, ::2]).mean(0)
    difference = ((torch.tensor(BOTH.negative[::2]).float() - 1) * absent).sum() / 28
    assert_same(weighted, plain + difference, logits)
    assert (torch.autograd.grad(plain, logits)[0][:, ::2] > 0).all()


@pytest.mark.parametrize("config", [config for config in EVERY if config.loss != "soft_f1"], ids=str_of)
def test_weights_are_factors_of_the_two_terms(config):
    logits, targets = sample()
    positive, negative = RANDOM.uniform(0, 3, (2, 28))
    zeros = np.zeros(28)
    parts = torch.zeros(())
    for index, unit in enumerate(np.eye(28)):
        parts = parts + positive[index] * build_loss(config, ClassWeights(unit, zeros))(logits, targets)
        parts = parts + negative[index] * build_loss(config, ClassWeights(zeros, unit))(logits, targets)
    assert_same(build_loss(config, ClassWeights(positive, negative))(logits, targets), parts, logits)


@pytest.mark.parametrize("config", EVERY, ids=str_of)
def test_classes_out_of_use_neither_count_nor_learn(config):
    logits, targets = sample()
    used = np.arange(28) % 3 == 0
    loss = build_loss(config, ClassWeights(BOTH.positive, BOTH.negative, used))
    value = loss(logits, targets)
    value.backward()
    assert (logits.grad[:, ~used] == 0).all()
    assert (logits.grad[:, used] != 0).any()
    with torch.no_grad():
        logits[:, ~used], targets[:, ~used] = torch.nan, 1
    assert loss(logits, targets) == value
    alone = build_loss(config, ClassWeights(BOTH.positive[used], BOTH.negative[used], used[used]))
    assert alone(logits[:, used], targets[:, used]) == value


@pytest.mark.parametrize("config", EVERY, ids=str_of)
def test_a_step_downhill_costs_less(config):
    logits, targets = sample(0.5)
    loss = build_loss(config, POSITIVE)
    before = loss(logits, targets)
    before.backward()
    assert before > 0
    assert loss(logits - logits.grad, targets) < before


HARD = [focal(0.5), focal(10), asymmetric(0.5, 0.5, 0.0), asymmetric(0.001, 0.001, 0.05), asymmetric(10, 10, 0.999)]


@pytest.mark.parametrize("config", [*EVERY, *HARD], ids=str_of)
@pytest.mark.parametrize("logit", [0.0, 1e-30, 17.0, 80.0, 150.0, 65504.0])
def test_huge_logits_stay_finite(config, logit):
    signs = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    logits = padded(logit * signs).requires_grad_()
    for targets in (torch.zeros(2, 28), torch.ones(2, 28), padded(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))):
        logits.grad = None
        loss = build_loss(config, POSITIVE)(logits, targets)
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()


def test_every_loss_is_among_those_tested():
    assert {config.loss for config in EVERY} == set(LOSSES)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="loss: expected one of"):
        build_loss(TrialConfig(loss="bcf"), ONES)
