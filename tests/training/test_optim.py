import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hpa_search.config import TrialConfig
from hpa_search.training.optim import OPTIMIZERS, SCHEDULES, build_optimizer, learning_rate, set_learning_rate


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_spares_biases_and_norms(name):
    optimizer = build_optimizer(network(), TrialConfig(optimizer=name, weight_decay=0.1))
    decayed, spared = optimizer.param_groups
    assert {weight.ndim for weight in decayed["params"]} == {4, 2}
    assert {weight.ndim for weight in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_step_follows_the_plain_one(name):
    config = TrialConfig(optimizer=name, learning_rate=0.01)
    torch.manual_seed(0)
    fused, plain = nn.Linear(6, 4), nn.Linear(6, 4)
    plain.load_state_dict(fused.state_dict())
    ours = build_optimizer(fused, config)
    groups = [
        {"params": [plain.weight], "weight_decay": config.weight_decay},
        {"params": [plain.bias], "weight_decay": 0.0},
    ]
    reference = OPTIMIZERS[name](groups, lr=0.01, fused=False, foreach=False)
    for _ in range(5):
        inputs = torch.randn(3, 6)
        for net, optimizer in ((fused, ours), (plain, reference)):
            optimizer.zero_grad()
            net(inputs).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(fused.weight, plain.weight)


def test_cosine_goes_from_the_rate_to_nearly_zero():
    config = TrialConfig(learning_rate=0.1, schedule="cosine")
    rates = [learning_rate(config, step, steps_per_epoch=10, epochs=10) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.05)
    assert 0 < rates[-1] < 1e-4
    assert rates == sorted(rates, reverse=True)


def test_warm_up_climbs_in_a_straight_line_to_the_rate():
    config = TrialConfig(learning_rate=0.1, schedule="constant", warmup_epochs=1.5)
    rates = [learning_rate(config, step, steps_per_epoch=2, epochs=4) for step in range(8)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1])


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 50), st.integers(1, 30), st.integers(0, 2000), st.floats(0, 40))
def test_the_rate_is_never_negative_nor_above_the_configured_one(schedule, steps, epochs, step, warmup):
    config = TrialConfig(schedule=schedule, warmup_epochs=warmup, learning_rate=0.3)
    assert 0 <= learning_rate(config, step, steps_per_epoch=steps, epochs=epochs) <= 0.3


def test_every_group_gets_the_rate():
    optimizer = build_optimizer(network(), TrialConfig())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
