import copy

import pytest
import torch
from torch import nn

from hpa_search.training.averaging import AveragedNetwork


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def steps(network, count):
    """Change the network's weights at random, and yield it after each change."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator))
            network[1].num_batches_tracked += 1
        yield network


def test_it_is_the_moving_average_of_weights_and_statistics():
    network = small()
    average, expected = AveragedNetwork(network, 0.5), copy.deepcopy(network).state_dict()
    for number, changed in enumerate(steps(network, 12)):
        average.update()
        decay = min(0.5, (1 + number) / (10 + number))
        for name, value in changed.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert average.updates == 12
    assert average.network[1].num_batches_tracked == 12


def test_it_resumes_from_its_state():
    network = small()
    whole = AveragedNetwork(network, 0.9)
    half = AveragedNetwork(network, 0.9)
    for number, _ in enumerate(steps(network, 10)):
        if number == 5:
            later = AveragedNetwork(network, 0.9)
            later.network.load_state_dict(half.network.state_dict())
            later.updates = half.updates
            half = later
        whole.update()
        half.update()
    for one, other in zip(whole.network.state_dict().values(), half.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_trained_network_stays_as_it_is():
    network = small()
    before = copy.deepcopy(network.state_dict())
    AveragedNetwork(network, 0.9).update()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(ValueError, match="between 0 and 1"):
        AveragedNetwork(small(), decay)
