import pytest
import timm
import torch

import hpa_search.models.backbones  # noqa: F401  (registers them)


def weights(**settings) -> int:
    return sum(weight.numel() for weight in timm.create_model("plain_cnn", num_classes=28, **settings).parameters())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_by_hand(channels):
    convolutions = 9 * (channels * 16 + 16 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * (16 + 32 + 64 + 64) + 2 * (512 + 256)
    linear = (64 * 6 * 6) * 512 + 512 * 256 + (256 * 28 + 28)
    assert weights(in_chans=channels) == convolutions + norms + linear


def test_a_global_average_needs_36_times_fewer_weights_after_it():
    assert weights() - weights(global_pool="avg") == 35 * 64 * 512


@pytest.mark.parametrize(("size", "side"), [(128, 6), (64, 2), (46, 1), (512, 30)])
def test_the_map_is_64_by_6_by_6_at_the_size_of_the_report(size, side):
    model = timm.create_model("plain_cnn").eval()
    assert model.forward_features(torch.randn(1, 4, size, size)).shape == (1, 64, side, side)


def test_at_128_pixels_the_map_is_flattened_as_it_is():
    model = timm.create_model("plain_cnn").eval()
    features = torch.randn(2, 64, 6, 6)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), model.hidden(features.flatten(1)))


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_smaller_map_is_repeated_to_6_by_6(side):
    model = timm.create_model("plain_cnn").eval()
    features = torch.randn(2, 64, side, side)
    repeated = features.repeat_interleave(6 // side, 2).repeat_interleave(6 // side, 3)
    torch.testing.assert_close(model.forward_head(features), model.hidden(repeated.flatten(1)))


def test_a_larger_map_is_averaged_to_6_by_6():
    model = timm.create_model("plain_cnn").eval()
    features = torch.randn(2, 64, 12, 12)
    averaged = features.unflatten(2, (6, 2)).unflatten(4, (6, 2)).mean((3, 5))
    torch.testing.assert_close(model.forward_head(features), model.hidden(averaged.flatten(1)))


def test_a_global_average_takes_any_size_and_ignores_where_things_are():
    model = timm.create_model("plain_cnn", global_pool="avg").eval()
    features = torch.randn(2, 64, 15, 11)
    torch.testing.assert_close(model.forward_head(features), model.hidden(features.flatten(2).mean(2)))
    torch.testing.assert_close(model.forward_head(features), model.forward_head(features.flip(2)))


def test_one_block_by_hand():
    model = timm.create_model("plain_cnn").eval()
    images = torch.randn(1, 4, 9, 9)
    convolved = torch.nn.functional.conv2d(images, model.get_submodule("blocks.0.conv").weight)
    expected = (convolved / (1 + 1e-5) ** 0.5).relu().unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))[:, :, :3, :3]
    torch.testing.assert_close(model.blocks[0](images), expected)


def test_dropout_stands_between_the_hidden_layers_only():
    model = timm.create_model("plain_cnn", drop_rate=0.9)
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [0.9]
    features = torch.randn(4, 64, 6, 6)
    assert not torch.equal(model.forward_head(features), model.forward_head(features))
    model.eval()
    torch.testing.assert_close(model.forward_head(features), model.forward_head(features), rtol=0, atol=0)
