import math

import pytest
import timm
import torch
from torch import nn

from hpa_search.models.backbones.capsnet import LabelCapsules, route, squash


def shorten(vector: list[float]) -> list[float]:
    """Squash, written out."""
    square = sum(value * value for value in vector)
    return [value / math.sqrt(square) * square / (1 + square) if square else 0.0 for value in vector]


def route_by_loops(votes: list[list[list[float]]], iterations: int) -> list[list[float]]:
    """Procedure 1 of Sabour et al. 2017 for one image, capsule by capsule; returns the sums before squashing."""
    lower, upper, size = len(votes), len(votes[0]), len(votes[0][0])
    agreement = [[0.0] * upper for _ in range(lower)]
    for iteration in range(iterations):
        shares = []
        for i in range(lower):
            total = sum(math.exp(value) for value in agreement[i])
            shares.append([math.exp(value) / total for value in agreement[i]])
        sums = [[sum(shares[i][j] * votes[i][j][e] for i in range(lower)) for e in range(size)] for j in range(upper)]
        if iteration == iterations - 1:
            return sums
        for j in range(upper):
            outcome = shorten(sums[j])
            for i in range(lower):
                agreement[i][j] += sum(votes[i][j][e] * outcome[e] for e in range(size))
    raise AssertionError("no iterations")


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_routing_equals_the_direct_loop(iterations):
    votes = torch.randn(3, 7, 4, 5, dtype=torch.float64)
    expected = torch.tensor([route_by_loops(image.tolist(), iterations) for image in votes], dtype=torch.float64)
    torch.testing.assert_close(route(votes, iterations), expected)


def test_the_whole_head_equals_the_direct_loop():
    head = LabelCapsules(capsules=5, num_labels=3).double()
    nn.init.normal_(head.weight)
    capsules = torch.randn(2, 5, 6)
    lengths = head.float()(capsules).sigmoid()
    for image, found in zip(capsules.tolist(), lengths.tolist(), strict=True):
        weight = head.weight.tolist()
        votes = [
            [[sum(w * u for w, u in zip(row, image[i], strict=True)) for row in weight[i][j]] for j in range(3)] for i in range(5)
        ]
        expected = [math.hypot(*shorten(total)) for total in route_by_loops(votes, 3)]
        assert found == pytest.approx(expected, rel=1e-4)


def test_shares_are_constants_to_the_gradient():
    """A sum for one label then depends on the votes for that label alone, each by its share."""
    votes = torch.randn(1, 6, 3, 4, requires_grad=True)
    route(votes, 3)[0, 1].sum().backward()
    assert votes.grad is not None
    assert not votes.grad[0, :, [0, 2]].any()
    shares = votes.grad[0, :, 1]
    assert (shares > 0).all()
    torch.testing.assert_close(shares, shares[:, :1].expand(-1, 4))
    torch.testing.assert_close((shares * votes[0, :, 1]).sum(0), route(votes, 3)[0, 1])


def test_capsules_that_agree_win_the_routing():
    """Two of three lower capsules vote alike for label 0; no two agree on label 1."""
    alike, other = [3.0, 0.0], [0.0, 3.0]
    votes = torch.tensor([[[alike, alike], [alike, other], [[-3.0, 0.0], [0.0, -3.0]]]])
    evenly, routed = (route(votes, iterations)[0].norm(dim=-1) for iterations in (1, 3))
    torch.testing.assert_close(evenly, torch.tensor([1.5, 1.5]))
    assert routed[0] > 1.5 * routed[1]


@pytest.mark.parametrize(("length", "shortened"), [(1.0, 0.5), (3.0, 0.9), (0.1, 0.01 / 1.01), (0.0, 0.0)])
def test_squash_by_hand(length, shortened):
    vector = torch.tensor([0.6, 0.0, -0.8]) * length
    torch.testing.assert_close(squash(vector), torch.tensor([0.6, 0.0, -0.8]) * shortened)


def test_a_capsule_of_nothing_has_a_finite_gradient():
    vector = torch.zeros(2, 6, requires_grad=True)
    squash(vector).sum().backward()
    assert vector.grad is not None
    assert not vector.grad.any()


def test_sigmoids_of_the_logits_are_lengths_and_margins_exact():
    head = LabelCapsules(capsules=20, num_labels=28)
    capsules = squash(torch.randn(4, 20, 6))
    votes = torch.einsum("bid,ijed->bije", capsules, head.weight)
    torch.testing.assert_close(head(capsules).sigmoid(), squash(route(votes, 3)).norm(dim=-1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e6])
def test_logits_are_finite_whatever_the_capsules(scale):
    head = LabelCapsules(capsules=20, num_labels=28)
    nn.init.constant_(head.weight, scale)
    logits = head(torch.full((2, 20, 6), 0.5))
    assert logits.isfinite().all()
    assert logits.abs().max() < 16.2


@pytest.mark.parametrize(("size", "side"), [(32, 8), (64, 24), (17, 1), (28, 6)])
def test_primary_capsules_by_hand(size, side):
    model = timm.create_model("capsnet", img_size=size, in_chans=3)
    capsules = model.forward_features(torch.randn(2, 3, size, size))
    assert capsules.shape == (2, 16 * side * side, 6)
    assert capsules.norm(dim=-1).max() < 1


def test_a_capsule_is_six_neighbouring_channels_at_one_place():
    model = timm.create_model("capsnet").eval()
    images = torch.randn(1, 3, 32, 32)
    maps = model.primary(model.conv(images).relu())
    kind, row, column = 5, 3, 7
    expected = shorten(maps[0, 6 * kind : 6 * kind + 6, row, column].tolist())
    capsule = model.forward_features(images)[0, kind * 64 + row * 8 + column]
    assert capsule.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_by_hand(channels):
    model = timm.create_model("capsnet", in_chans=channels, num_classes=28)
    convolutions = (81 * channels * 64 + 64) + (81 * 64 * 96 + 96)
    assert sum(weight.numel() for weight in model.parameters()) == convolutions + 1024 * 28 * 8 * 6


def test_it_brings_its_own_head():
    model = timm.create_model("capsnet", num_classes=0)
    head = model.label_head(5)
    assert head(model.forward_features(torch.randn(2, 3, 32, 32))).shape == (2, 5)
    assert not any("fc" in name for name in model.state_dict())


def test_another_size_than_built_for_is_refused():
    model = timm.create_model("capsnet")
    with pytest.raises(ValueError, match=r"built for images of 32 x 32 pixels \(its img_size\), not 40 x 40"):
        model(torch.randn(1, 3, 40, 40))
    with pytest.raises(ValueError, match="17 to 64 pixels, not of 512 x 512"):
        timm.create_model("capsnet", img_size=512)


def test_a_few_steps_of_the_margin_loss_teach_it_a_batch():
    torch.manual_seed(0)
    model = timm.create_model("capsnet", num_classes=4)
    images, targets = torch.randn(8, 3, 32, 32), (torch.arange(8)[:, None] % 4 == torch.arange(4)).float()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(15):
        lengths = model(images).sigmoid()
        loss = (targets * (0.9 - lengths).relu() ** 2 + 0.5 * (1 - targets) * (lengths - 0.1).relu() ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    lengths = model(images).sigmoid()
    assert lengths[targets == 1].min() > lengths[targets == 0].max()
