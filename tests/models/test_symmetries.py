import math

import numpy as np
import pytest
import torch
from torch import nn

from hpa_search.config import TrialConfig
from hpa_search.models.build import build_network
from hpa_search.models.symmetries import LARGEST, VIEWS, Symmetric, combined, views
from hpa_search.scoring.calibration import logit


class Corner(nn.Module):
    """A network whose logits show the upper left corner of the first channel."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        return images[:, 0, 0, 0, None] * torch.tensor([1.0, -1.0])


def grid(side=3):
    return torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side).repeat(1, 4, 1, 1)


def test_the_views_are_the_eight_different_ones_and_the_image_itself_is_first():
    seen = list(views(grid()))
    assert len({tuple(view.flatten().tolist()) for view in seen}) == VIEWS == len(seen)
    assert torch.equal(seen[0], grid())


def test_every_symmetry_of_a_view_is_a_view():
    seen = {tuple(view.flatten().tolist()) for view in views(grid())}
    for view in views(grid()):
        assert {tuple(turned.flatten().tolist()) for turned in views(view)} == seen


@pytest.mark.parametrize("how", ["mean", "max"])
def test_by_hand(how):
    """Each of the four corners comes to the upper left twice: 0 and 2 above, 6 and 8 below."""
    probabilities = 1 / (1 + np.exp(-np.array([0.0, 2, 6, 8])))
    expected = getattr(probabilities, how)(), getattr(1 - probabilities, how)()
    found = Symmetric(Corner(), how)(grid())
    np.testing.assert_allclose(found[0].sigmoid(), expected, rtol=1e-5)


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("channels", ["rgby", "g"])
def test_a_network_sees_no_difference_between_the_views(how, channels):
    torch.manual_seed(0)
    config = TrialConfig(backbone="test_resnet", resolution="crop", full_size=48, crop_size=32, channels=channels)
    network = build_network(config, (0.5,) * 4, (0.2,) * 4).eval()
    nn.init.normal_(network.head.classifier.weight, std=0.5)
    images = torch.randint(0, 256, (2, 4, 48, 48), dtype=torch.uint8)
    with torch.inference_mode():
        expected = Symmetric(network, how)(images)
        assert (network(images) - expected).abs().max() > 1e-3
        for view in views(images):
            torch.testing.assert_close(Symmetric(network, how)(view), expected, rtol=0, atol=1e-5)


def test_the_views_are_looked_at_one_after_another():
    network = Corner()
    Symmetric(network, "mean")(grid().repeat(5, 1, 1, 1))
    assert network.batches == [5] * VIEWS


def test_the_weights_are_the_networks():
    network = nn.Linear(2, 2)
    assert list(Symmetric(network, "max").parameters()) == list(network.parameters())


@pytest.mark.parametrize("how", ["mean", "max"])
def test_sure_networks_stay_finite_and_agree_with_the_logit_of_the_probabilities(how):
    z = torch.tensor([[-200.0, 200, 15, -15, 3], [-200, 200, 14, -16, -4]])
    probabilities = getattr(np, how)(1 / (1 + np.exp(-z.double().numpy())), axis=0)
    found = combined(z[:, None], how)
    np.testing.assert_allclose(found[0], logit(probabilities), rtol=2e-6)
    assert found.dtype == torch.float32 and found.abs().max() <= math.nextafter(np.float32(LARGEST), 99)


def test_nan_stays_nan():
    assert combined(torch.full((2, 1, 1), torch.nan), "mean").isnan().all()
    assert combined(torch.full((2, 1, 1), torch.nan), "max").isnan().all()
