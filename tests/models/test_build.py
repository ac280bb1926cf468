import copy

import pytest
import torch

from hpa_search.config import TrialConfig
from hpa_search.models.build import build_network, parameters, set_prior

MEAN, STD = [0.1] * 4, [0.2] * 4
OWN_SIZES = {"plain_cnn": 128, "gapnet_pl": 128, "capsnet": 32}


def tiny(**settings) -> TrialConfig:
    return TrialConfig(**{"backbone": "test_resnet", "small_size": 64, "full_size": 128, **settings})


def some_images(size, count=2):
    return torch.randint(0, 256, (count, 4, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("resolution", ["downsize", "gap", "extra_blocks", "crop"])
@pytest.mark.parametrize("channels", ["rgby", "mix_b", "learned", "g"])
@pytest.mark.parametrize("backbone", ["test_resnet", "resnet10t", "test_convnext"])
def test_images_to_logits_with_a_gradient_for_every_weight(resolution, channels, backbone):
    crop = {"crop_size": 64} if resolution == "crop" else {}
    config = tiny(resolution=resolution, channels=channels, backbone=backbone, **crop)
    network = build_network(config, MEAN, STD)
    logits = network(some_images(config.input_size))
    assert logits.shape == (2, 28)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize(("backbone", "size"), OWN_SIZES.items())
def test_our_own_backbones_are_backbones_like_any(backbone, size):
    network = build_network(TrialConfig(backbone=backbone, small_size=size, channels="rgby"), MEAN, STD)
    set_prior(network, [0.1] * 28)
    logits = network(some_images(size))
    assert logits.shape == (2, 28)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_only_what_the_setting_is_about_changes_the_weights():
    counts = {
        name: parameters(build_network(tiny(**settings), MEAN, STD))
        for name, settings in {
            "downsize": {},
            "gap": {"resolution": "gap"},
            "crop": {"resolution": "crop", "crop_size": 64},
            "extra_blocks": {"resolution": "extra_blocks"},
            "hidden": {"head": "hidden"},
            "learned": {"channels": "learned"},
        }.items()
    }
    assert counts["downsize"] == counts["gap"] == counts["crop"]
    assert counts["learned"] == counts["downsize"] + 12
    assert min(counts["extra_blocks"], counts["hidden"]) > counts["downsize"]


def test_channels_that_are_not_selected_change_nothing():
    network = build_network(tiny(channels="rgb"), MEAN, STD).eval()
    images = some_images(64)
    other = images.clone()
    other[:, 3] = 255 - other[:, 3]
    torch.testing.assert_close(network(images), network(other))
    other[:, 1] = 255 - other[:, 1]
    assert not torch.allclose(network(images), network(other))


@pytest.mark.parametrize("normalise", ["dataset", "image"])
def test_an_image_has_a_label_when_one_of_the_crops_that_cover_it_shows_it(normalise):
    config = tiny(resolution="crop", full_size=160, crop_size=64, normalise=normalise, channels="rgby")
    network = build_network(config, MEAN, STD).eval()
    images = some_images(160)
    corners = [(top, left) for top in (0, 48, 96) for left in (0, 48, 96)]
    crops = torch.stack([network(images[..., top : top + 64, left : left + 64]) for top, left in corners])
    torch.testing.assert_close(network(images), crops.amax(dim=0))
    assert len(crops.argmax(dim=0).unique()) > 1
    with pytest.raises(ValueError, match="crops of 64"):
        network(images[..., :48, :48])


def test_crops_are_cut_in_training_mode_too():
    """What a network makes of an image depends on its size, not on a mode: a larger image is never taken whole unnoticed."""
    network = build_network(tiny(resolution="crop", crop_size=64), MEAN, STD)
    seen = []
    network.backbone.conv1.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape)))
    network.train()(some_images(128))
    assert seen == [(2, 3, 64, 64)] * 4
    seen.clear()
    network(some_images(64))
    assert seen == [(2, 3, 64, 64)]


def test_first_predictions_are_the_label_frequencies():
    torch.manual_seed(0)
    prevalence = torch.linspace(0.01, 0.4, 28)
    for head in ("plain", "hidden", "avg_max"):
        network = build_network(tiny(head=head), MEAN, STD).eval()
        set_prior(network, prevalence.tolist())
        torch.testing.assert_close(network(some_images(64, 8)).sigmoid().mean(dim=0), prevalence, rtol=0.3, atol=0)


def test_prior_of_absent_and_universal_classes_is_finite():
    network = build_network(tiny(), MEAN, STD)
    set_prior(network, [0.0, 1.0] + [0.5] * 26)
    bias = network.head.classifier.bias.detach()
    assert bias.isfinite().all()
    assert bias[0] == pytest.approx(-9.21, abs=0.01)
    assert bias[2] == 0


def test_capsules_have_no_prior_to_be_set():
    network = build_network(TrialConfig(backbone="capsnet", small_size=32), MEAN, STD)
    before = copy.deepcopy(network.state_dict())
    set_prior(network, [0.01] * 28)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_logits_keep_float32_under_autocast():
    network = build_network(tiny(), MEAN, STD).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(some_images(64)).dtype == torch.float32


def test_weights_survive_a_save_and_a_load():
    config = tiny(channels="learned", head="avg_max", resolution="extra_blocks")
    network, other = (build_network(config, MEAN, STD).eval() for _ in range(2))
    other.load_state_dict(network.state_dict())
    images = some_images(128)
    torch.testing.assert_close(other(images), network(images), rtol=0, atol=0)
