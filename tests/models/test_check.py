import time

import pytest
import torch

from hpa_search.config import TrialConfig
from hpa_search.models.build import build_network
from hpa_search.models.check import check_network

MEAN, STD = [0.1] * 4, [0.2] * 4
SEARCHED = (
    "resnet18d",
    "resnet34",
    "resnet50d",
    "densenet121",
    "seresnext50_32x4d",
    "inception_v3",
    "efficientnetv2_rw_t",
    "hgnetv2_b4",
    "mobilenetv4_hybrid_medium",
    "convnext_tiny",
    "vgg16",
)


def tiny(**settings) -> TrialConfig:
    return TrialConfig(**{"backbone": "test_resnet", "small_size": 64, "full_size": 128, **settings})


def some_images(size, count=2):
    return torch.randint(0, 256, (count, 4, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("backbone", SEARCHED)
@pytest.mark.parametrize("resolution", ["downsize", "gap", "extra_blocks", "crop"])
def test_known_convolutional_backbones_pass(backbone, resolution):
    check_network(TrialConfig(backbone=backbone, resolution=resolution, small_size=128, channels="rgby"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "renset18"}, "^backbone: .* did you mean 'resnet18'"),
        ({"backbone": "hf-hub:timm/resnet18"}, "^backbone: timm knows no model"),
        ({"backbone": "resnet18.no_such_tag"}, "^backbone: .*no_such_tag"),
        ({"backbone": "inception_v3", "small_size": 32}, "^backbone: 'inception_v3' does not work .* at 32 pixels"),
        (
            {"backbone": "capsnet", "resolution": "gap", "full_size": 32},
            "^backbone: 'capsnet' does not work with resolution 'gap'",
        ),
        ({"backbone": "capsnet", "small_size": 224}, "^backbone: .* 17 to 64 pixels"),
        ({"backbone": "gapnet_pl", "resolution": "extra_blocks"}, "not a channels x height x width map"),
        ({"backbone": "vit_tiny_patch16_224", "resolution": "extra_blocks"}, "not a channels x height x width map"),
        ({"backbone": "efficientformer_l1", "resolution": "crop", "crop_size": 256}, "efficientformer_l1.* at 256 pixels"),
        ({"channels": "rgq"}, "^channels: expected letters"),
        ({"channels": "1 0 0 0; 0 0 0 0"}, "^channels: row 2"),
        ({"normalise": "mine"}, "^normalise: expected"),
        ({"head": "pliant"}, "^head: expected one of .*did you mean 'plain'"),
        ({"head": "avg_max", "backbone": "vit_tiny_patch16_224"}, "^head: 'avg_max' does not work with backbone 'vit_tiny"),
        ({"head": "hidden", "backbone": "capsnet", "small_size": 32}, "^head: .*brings a head of its own"),
        ({"dropout": 0.25, "backbone": "capsnet", "small_size": 32}, "^head: .*dropout 0.25"),
        ({"freeze": "last_blok"}, "^freeze: expected one of .*did you mean 'last_block'"),
        ({"freeze": "last_block", "backbone": "caformer_s18"}, "^freeze: 'last_block' does not go with backbone 'caformer_s18'"),
        ({"last_epochs": 1, "last_freeze": "last_block", "backbone": "caformer_s18"}, "^last_freeze: 'last_block'"),
        ({"last_epochs": 1, "last_freeze": "nothing"}, "^last_freeze: expected one of"),
        ({"weights": "timm", "backbone": "plain_cnn"}, "^weights: timm has none of 'plain_cnn'"),
        ({"weights": "timm", "backbone": "hiera_tiny_224", "small_size": 512}, "^weights: .*at 512 pixels.* pos_embed"),
        ({"weights": "timm", "stem": "meen_rgb"}, "^stem: expected one of .*did you mean 'mean_rgb'"),
        (
            {"weights": "timm", "backbone": "tresnet_m", "channels": "rgby"},
            "^stem: 'mean_rgb' does not go with backbone 'tresnet_m'",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_read_in_one_line(settings, message):
    for attempt in (check_network, check_network, lambda config: build_network(config, MEAN, STD)):
        with pytest.raises(ValueError, match=message) as refusal:
            attempt(TrialConfig(**settings))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("weights", ["none", "timm"])
def test_a_transformer_is_built_for_the_size_it_is_given(weights):
    """Where timm can bring the published position embeddings to that size, the weights may be timm's."""
    for size in (64, 128):
        check_network(tiny(backbone="test_vit", small_size=size, weights=weights))
    network = build_network(tiny(backbone="test_vit", resolution="gap"), MEAN, STD)
    assert network(some_images(128)).shape == (2, 28)
    crops = build_network(tiny(backbone="test_vit", resolution="crop", crop_size=96), MEAN, STD)
    assert crops(some_images(128)).shape == (2, 28)


def test_what_passed_the_check_can_be_built_and_run():
    for backbone in ("test_vit", "test_convnext", "test_byobnet", "test_mambaout"):
        for resolution in ("downsize", "gap", "extra_blocks", "crop"):
            for head in ("plain", "hidden", "avg_max"):
                crop = {"crop_size": 64} if resolution == "crop" else {}
                config = tiny(backbone=backbone, resolution=resolution, head=head, channels="gy", small_size=96, **crop)
                try:
                    check_network(config)
                except ValueError:
                    continue
                assert build_network(config, MEAN, STD)(some_images(config.input_size)).shape == (2, 28)


def test_a_second_check_is_free():
    config = TrialConfig(backbone="densenet121", freeze="last_block", weights="timm", channels="rgby")
    check_network(config)
    again = []
    for dropout in range(100):
        started = time.perf_counter()
        check_network(config.model_copy(update={"dropout": dropout / 100}))
        again.append(time.perf_counter() - started)
    assert min(again) < 0.001


def test_the_check_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_network(TrialConfig(backbone="resnet26d"))
    with pytest.raises(ValueError, match="pos_embed"):
        check_network(TrialConfig(backbone="hiera_tiny_224", weights="timm", small_size=320))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
