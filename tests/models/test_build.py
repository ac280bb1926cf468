import time

import pytest
import torch

from hpa_search.config import TrialConfig
from hpa_search.models.build import build_network, check_backbone, set_prior

MEAN, STD = [0.1] * 4, [0.2] * 4
SEARCHED = (
    "resnet18",
    "resnet34",
    "resnet50d",
    "densenet121",
    "seresnext50_32x4d",
    "inception_v3",
    "efficientnetv2_rw_t",
    "mobilenetv4_hybrid_medium",
    "convnext_tiny",
    "vgg16",
)


def tiny(**settings) -> TrialConfig:
    return TrialConfig(**{"backbone": "test_resnet", "small_size": 64, "full_size": 128, **settings})


@pytest.mark.parametrize("resolution", ["downsize", "gap", "extra_blocks"])
@pytest.mark.parametrize("channels", ["rgby", "rgb", "green"])
@pytest.mark.parametrize("backbone", ["test_resnet", "resnet10t", "test_convnext"])
def test_images_to_logits_with_a_gradient_for_every_weight(resolution, channels, backbone):
    config = tiny(resolution=resolution, channels=channels, backbone=backbone)
    network = build_network(config, MEAN, STD)
    size = config.input_size
    logits = network(torch.randint(0, 256, (2, 4, size, size), dtype=torch.uint8))
    assert logits.shape == (2, 28)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_channels_that_are_not_selected_change_nothing():
    network = build_network(tiny(channels="rgb"), MEAN, STD).eval()
    images = torch.randint(0, 256, (2, 4, 64, 64), dtype=torch.uint8)
    other = images.clone()
    other[:, 3] = 255 - other[:, 3]
    torch.testing.assert_close(network(images), network(other))
    other[:, 1] = 255 - other[:, 1]
    assert not torch.allclose(network(images), network(other))


def test_extra_blocks_add_weights_and_gap_does_not():
    sizes = {
        name: sum(weight.numel() for weight in build_network(tiny(resolution=name), MEAN, STD).parameters())
        for name in ("downsize", "gap", "extra_blocks")
    }
    assert sizes["downsize"] == sizes["gap"] < sizes["extra_blocks"]


def test_first_predictions_are_the_label_frequencies():
    network = build_network(tiny(), MEAN, STD).eval()
    prevalence = torch.linspace(0.01, 0.4, 28)
    set_prior(network, prevalence.tolist())
    images = torch.randint(0, 256, (8, 4, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(network(images).sigmoid().mean(dim=0), prevalence, rtol=0.3, atol=0)


def test_prior_of_absent_and_universal_classes_is_finite():
    network = build_network(tiny(), MEAN, STD)
    set_prior(network, [0.0, 1.0] + [0.5] * 26)
    bias = network.classifier.bias.detach()
    assert bias.isfinite().all()
    assert bias[0] == pytest.approx(-9.21, abs=0.01)
    assert bias[2] == 0


def test_logits_keep_float32_under_autocast():
    network = build_network(tiny(), MEAN, STD).eval()
    images = torch.randint(0, 256, (2, 4, 64, 64), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(images).dtype == torch.float32


@pytest.mark.parametrize("backbone", SEARCHED)
@pytest.mark.parametrize("resolution", ["downsize", "gap", "extra_blocks"])
def test_known_convolutional_backbones_pass(backbone, resolution):
    check_backbone(TrialConfig(backbone=backbone, resolution=resolution, full_size=512, small_size=128, channels="rgby"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "renset18"}, "did you mean 'resnet18'"),
        ({"backbone": "hf-hub:timm/resnet18"}, "timm knows no model"),
        ({"backbone": "resnet18.no_such_tag"}, "no_such_tag"),
        ({"backbone": "vit_tiny_patch16_224", "resolution": "gap", "full_size": 512}, "512"),
        ({"backbone": "vit_tiny_patch16_224", "resolution": "extra_blocks", "full_size": 224}, "no channels x height x width"),
        ({"backbone": "inception_v3", "small_size": 32}, "inception_v3"),
    ],
)
def test_what_cannot_work_is_refused_when_read(settings, message):
    with pytest.raises(ValueError, match=message):
        check_backbone(TrialConfig(**settings))
    with pytest.raises(ValueError, match=message):
        build_network(TrialConfig(**settings), MEAN, STD)


def test_a_second_check_is_free():
    config = TrialConfig(backbone="densenet121")
    check_backbone(config)
    started = time.perf_counter()
    for _ in range(100):
        check_backbone(config)
    assert time.perf_counter() - started < 0.05


def test_the_check_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_backbone(TrialConfig(backbone="resnet26d"))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
