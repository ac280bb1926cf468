import pytest
import timm
import torch
from timm.models._manipulate import group_parameters

import hpa_search.models.backbones  # noqa: F401  (registers them)


def convolution(entering: int, leaving: int) -> int:
    return 9 * entering * leaving + leaving


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_by_hand(channels):
    model = timm.create_model("gapnet_pl", in_chans=channels, num_classes=28)
    convolutions = convolution(channels, 32) + convolution(32, 64) + 2 * convolution(64, 64)
    convolutions += convolution(64, 128) + 2 * convolution(128, 128)
    normed = channels + 2 * 32 + 4 * 64 + 2 * 128 + 224 + 256
    linear = (224 * 256 + 256) + (256 * 256 + 256) + (256 * 28 + 28)
    assert sum(weight.numel() for weight in model.parameters()) == convolutions + 2 * normed + linear


def test_weights_are_as_many_as_keras_printed_for_system_s2():
    """595,268 trained and 2,120 of running averages: the summary in S2's published notebook (512 x 512 x 4)."""
    model = timm.create_model("gapnet_pl", in_chans=4, num_classes=28)
    assert sum(weight.numel() for weight in model.parameters()) == 595_268
    assert sum(average.numel() for name, average in model.named_buffers() if "running" in name) == 2_120


def test_maps_are_as_large_as_keras_printed_for_system_s2():
    model = timm.create_model("gapnet_pl").eval()
    shapes, convolved = [], []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _module, _input, output: convolved.append(output.shape[-1]))
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _input, output: shapes.append(tuple(output.shape[1:])))
    assert model.to("meta").forward_features(torch.empty(1, 4, 512, 512, device="meta")).shape == (1, 224)
    assert convolved == [510, 127, 125, 123, 59, 57, 55]
    assert shapes == [(32, 255, 255), (64, 61, 61), (128, 55, 55)]


def test_features_are_the_averages_of_three_depths():
    model = timm.create_model("gapnet_pl").eval()
    images = torch.randn(2, 4, 96, 96)
    first = model.blocks[0](model.input_norm(images))
    second = model.blocks[1](first)
    third = model.blocks[2](second)
    joint = torch.cat([block.flatten(2).mean(2) for block in (first, second, third)], dim=1)
    torch.testing.assert_close(model.forward_features(images), joint / (1 + 1e-3) ** 0.5, rtol=1e-4, atol=1e-6)


def test_the_last_block_and_the_head_are_the_last_seven_layers_in_keras():
    """Dense, dropout, batch norm, dense, dropout, dense, sigmoid: 131,100 weights that S2's second stage trains."""
    model = timm.create_model("gapnet_pl", num_classes=28)
    groups = group_parameters(model, model.group_matcher(coarse=True))
    assert list(groups) == [0, 1, 2, 3, 4]
    trained = sum(model.get_parameter(name).numel() for name in groups[3] + groups[4])
    assert trained == 57_600 + 2 * 256 + 65_792 + 7_196


def test_starts_as_keras_starts():
    model = timm.create_model("gapnet_pl")
    weight = model.hidden[0].weight.detach()
    bound = (6 / (224 + 256)) ** 0.5
    assert weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not model.hidden[0].bias.any()


def test_batch_norms_remember_as_keras_remembers():
    model = timm.create_model("gapnet_pl")
    images = torch.randn(4, 4, 96, 96) + 5
    model(images)
    torch.testing.assert_close(model.input_norm.running_mean, 0.01 * images.mean((0, 2, 3)))
