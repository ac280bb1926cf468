import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, Adamax, AdamW
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from hpa_search.config import TrialConfig
from hpa_search.training.optim import OPTIMIZERS, SCHEDULES, build_optimizer, learning_rate, set_learning_rate

REFERENCES = {
    "adam": (TrialConfig(optimizer="adam"), Adam, {}),
    "adamw": (TrialConfig(optimizer="adamw"), AdamW, {}),
    "sgd": (TrialConfig(optimizer="sgd", momentum=0.8), SGD, {"momentum": 0.8, "nesterov": True}),
    "sgd without momentum": (TrialConfig(optimizer="sgd", momentum=0.0), SGD, {}),
    "adamax": (TrialConfig(optimizer="adamax"), Adamax, {}),
}


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))


def train(net, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        loss = net(torch.randn(5, 3, 3, 3, generator=generator)).square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def rates(config, steps_per_epoch, epochs, losses=()):
    return [
        learning_rate(config, step, steps_per_epoch=steps_per_epoch, epochs=epochs, validation_losses=losses)
        for step in range(steps_per_epoch * epochs)
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_spares_biases_and_norms(name):
    optimizer = build_optimizer(network(), TrialConfig(optimizer=name, weight_decay=0.1))
    decayed, spared = optimizer.param_groups
    assert {weight.ndim for weight in decayed["params"]} == {4, 2}
    assert {weight.ndim for weight in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_every_optimizer_has_its_reference():
    assert {config.optimizer for config, _, _ in REFERENCES.values()} == set(OPTIMIZERS)


@pytest.mark.parametrize(("config", "kind", "options"), REFERENCES.values(), ids=REFERENCES)
def test_steps_follow_torch_s_plain_ones(config, kind, options):
    config = config.model_copy(update={"learning_rate": 0.01, "weight_decay": 0.1})
    torch.manual_seed(0)
    ours, plain = network(), network()
    plain.load_state_dict(ours.state_dict())
    decayed = [weight for weight in plain.parameters() if weight.ndim > 1]
    spared = [weight for weight in plain.parameters() if weight.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]
    train(ours, build_optimizer(ours, config), 5)
    train(plain, kind(groups, lr=0.01, foreach=False, **options), 5)
    for weight, reference in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, reference)


@pytest.mark.parametrize("config", [config for config, _, _ in REFERENCES.values()], ids=REFERENCES)
def test_frozen_weights_rest_and_resume_when_freed(config):
    config = config.model_copy(update={"weight_decay": 0.5})
    net = network()
    optimizer = build_optimizer(net, config)
    net[0].requires_grad_(False)
    first = net[0].weight.clone()
    train(net, optimizer, 3)
    assert torch.equal(net[0].weight, first)
    net[0].requires_grad_(True)
    train(net, optimizer, 3)
    freed = net[0].weight.detach().clone()
    assert not torch.equal(freed, first)
    net[0].requires_grad_(False)  # now with momentum of its own
    last = net[3].weight.detach().clone()
    train(net, optimizer, 3)
    assert torch.equal(net[0].weight, freed)
    assert not torch.equal(net[3].weight, last)


@pytest.mark.parametrize("config", [config for config, _, _ in REFERENCES.values()], ids=REFERENCES)
def test_a_state_saved_while_weights_were_frozen_resumes_the_same(config):
    torch.manual_seed(0)
    net, resumed = network(), network()
    optimizer = build_optimizer(net, config)
    net[0].requires_grad_(False)
    train(net, optimizer, 2)
    resumed.load_state_dict(net.state_dict())
    again = build_optimizer(resumed, config)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    net[0].requires_grad_(True)
    train(net, optimizer, 2, seed=1)
    train(resumed, again, 2, seed=1)
    for weight, other in zip(net.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_every_group_gets_the_rate():
    optimizer = build_optimizer(network(), TrialConfig())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_cosine_goes_from_the_rate_to_nearly_zero():
    found = rates(TrialConfig(learning_rate=0.1, schedule="cosine"), 10, 10)
    assert found[0] == 0.1
    assert found[50] == pytest.approx(0.05)
    assert 0 < found[-1] < 1e-4
    assert found == sorted(found, reverse=True)


def test_warm_up_climbs_in_a_straight_line_to_the_rate():
    found = rates(TrialConfig(learning_rate=0.1, schedule="constant", warmup_epochs=1.5), 2, 4)
    assert found == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_step_falls_every_so_many_epochs_after_the_warm_up():
    config = TrialConfig(learning_rate=0.8, schedule="step", schedule_epochs=2, schedule_factor=0.5, warmup_epochs=1)
    found = rates(config, 2, 7)
    assert found[2:] == pytest.approx([0.8] * 4 + [0.4] * 4 + [0.2] * 4)
    assert found[:2] == pytest.approx([0.8 / 3, 1.6 / 3])


def test_restarts_repeat_one_period_of_the_cosine():
    config = TrialConfig(learning_rate=0.1, schedule="cosine_restarts", schedule_epochs=3)
    found = rates(config, 4, 9)
    assert found[:12] == rates(TrialConfig(learning_rate=0.1, schedule="cosine"), 4, 3)
    assert found == found[:12] * 3


@pytest.mark.parametrize("total", [1, 2, 3, 4, 7, 10, 100])
def test_one_cycle_is_torch_s(total):
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = OneCycleLR(
        optimizer, 0.3, total_steps=total, pct_start=0.3, div_factor=25, final_div_factor=1e4, cycle_momentum=False
    )
    reference = []
    for _ in range(total):
        reference.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(TrialConfig(learning_rate=0.3, schedule="one_cycle"), 1, total) == pytest.approx(reference, rel=1e-9)
    assert rates(TrialConfig(learning_rate=0.3, schedule="one_cycle", warmup_epochs=5), 1, total) == pytest.approx(reference)


@given(st.lists(st.sampled_from([0.5, 0.50005, 0.49995, 0.4998, 0.6, 0.4, 0.3]), max_size=30), st.integers(1, 5))
def test_plateau_is_torch_s_with_keras_reading_of_patience(losses, patience):
    """Keras lowers the rate when ``patience`` epochs have brought nothing, torch when more than ``patience`` have."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    keras = {"patience": patience - 1, "threshold": 1e-4, "threshold_mode": "abs", "eps": 0.0}
    schedule = ReduceLROnPlateau(optimizer, factor=0.5, **keras)
    reference = []
    for loss in [*losses, 0.0]:
        reference += optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["lr"]
        schedule.step(loss)
    config = TrialConfig(learning_rate=1.0, schedule="plateau", schedule_epochs=patience, schedule_factor=0.5)
    assert rates(config, 2, len(losses) + 1, losses) == reference


def test_plateau_looks_at_no_later_epoch_and_misses_no_earlier_one():
    config = TrialConfig(learning_rate=1.0, schedule="plateau", schedule_epochs=1, schedule_factor=0.5)
    assert learning_rate(config, 5, steps_per_epoch=3, epochs=9, validation_losses=[1.0, 2.0, 3.0]) == 1.0
    assert learning_rate(config, 6, steps_per_epoch=3, epochs=9, validation_losses=[1.0, 2.0, 3.0]) == 0.5
    with pytest.raises(ValueError, match="needs 2 validation losses, given 1"):
        learning_rate(config, 6, steps_per_epoch=3, epochs=9, validation_losses=[1.0])


@given(
    *(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 50), st.integers(1, 30), st.integers(0, 2000)),
    *(st.floats(0, 40), st.lists(st.floats(0, 9), min_size=30, max_size=30)),
)
def test_the_rate_is_never_negative_nor_above_the_configured_one(schedule, steps, epochs, step, warmup, losses):
    config = TrialConfig(schedule=schedule, warmup_epochs=warmup, learning_rate=0.3)
    rate = learning_rate(config, step, steps_per_epoch=steps, epochs=epochs, validation_losses=losses)
    assert 0 <= rate <= 0.3
    if step >= steps * epochs:
        assert rate == rates(config, steps, epochs, losses)[-1]


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 5), st.lists(st.floats(0, 9), min_size=10, max_size=10))
def test_a_resumed_trial_finds_the_same_rate(schedule, warmup, losses):
    config = TrialConfig(schedule=schedule, warmup_epochs=warmup)
    for step, rate in enumerate(rates(config, 3, 10, losses)):
        known = losses[: step // 3]
        assert learning_rate(config, step, steps_per_epoch=3, epochs=10, validation_losses=known) == rate
