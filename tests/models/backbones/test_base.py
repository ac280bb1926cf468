"""What holds for every backbone of our own, a further one included."""

import copy
import pkgutil

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from timm.models._manipulate import group_parameters

from hpa_search.models import backbones

NAMES = [module.name for module in pkgutil.iter_modules(backbones.__path__) if module.name != "base"]
LABELS = 28


def small_input(name: str, channels: int, batch: int = 2) -> torch.Tensor:
    config = get_pretrained_cfg(name)
    size = config.input_size[1] if config.fixed_input_size else 128
    return torch.randn(batch, channels, size, size)


def test_there_are_some():
    assert {"plain_cnn", "gapnet_pl", "capsnet"} <= set(NAMES)
    assert all(timm.is_model(name) for name in NAMES)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_every_weight(name, channels):
    model = timm.create_model(name, in_chans=channels, num_classes=LABELS)
    logits = model(small_input(name, channels))
    assert logits.shape == (2, LABELS)
    logits.square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("name", NAMES)
def test_without_classes_it_gives_what_the_last_layer_would_be_given(name):
    model = timm.create_model(name, num_classes=0, in_chans=3).eval()
    images = small_input(name, 3)
    features = model.forward_features(images)
    assert model.num_features in features.shape[1:]
    pooled = model(images)
    assert pooled.shape == (2, model.head_hidden_size)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), pooled)


@pytest.mark.parametrize("name", NAMES)
def test_on_the_meta_device_it_takes_no_memory(name):
    with torch.device("meta"), torch.no_grad():
        model = timm.create_model(name, num_classes=LABELS, in_chans=3).eval()
        assert {weight.device.type for weight in model.state_dict().values()} == {"meta"}
        assert model(small_input(name, 3)).shape == (2, LABELS)


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_saving(name):
    first, second = (timm.create_model(name, num_classes=LABELS, in_chans=3) for _ in range(2))
    images = small_input(name, 3)
    first(images)  # moves the running averages of batch norms
    first, second = first.eval(), second.eval()
    assert not torch.equal(first(images), second(images))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    torch.testing.assert_close(second(images), first(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_stem_comes_first_and_the_classifier_last(name):
    model = timm.create_model(name, num_classes=LABELS)
    first_conv = model.default_cfg["first_conv"]
    assert isinstance(model.get_submodule(first_conv), torch.nn.Conv2d)
    groups = group_parameters(model, model.group_matcher(coarse=True))
    assert len(groups) >= 3  # stem, a block, classifier
    assert f"{first_conv}.weight" in groups[0]
    last = groups[max(groups)]
    assert last
    assert all(weight.startswith("fc.") for weight in last)


@pytest.mark.parametrize("name", NAMES)
def test_features_keep_their_values_in_a_batch_of_another_size(name):
    model = timm.create_model(name, num_classes=LABELS, in_chans=3).eval()
    images = small_input(name, 3, batch=3)
    torch.testing.assert_close(model(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_memory_changes_nothing(name):
    model = timm.create_model(name, num_classes=LABELS, in_chans=3).eval()
    images = small_input(name, 3)
    expected = model(images)
    found = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_does_not_have_is_refused(name):
    with pytest.raises(RuntimeError, match=f"No pretrained weights exist for {name}"):
        timm.create_model(name, pretrained=True)
    with pytest.raises(TypeError, match="no_such_setting"):
        timm.create_model(name, no_such_setting=1)
    with pytest.raises(ValueError, match=f"{name} does not know the pooling 'max', only "):
        timm.create_model(name, global_pool="max")


@pytest.mark.parametrize(("name", "smallest"), [("plain_cnn", 46), ("gapnet_pl", 76), ("capsnet", 17)])
def test_the_smallest_size_is_the_smallest(name, smallest):
    """By hand: the layers leave a single pixel of the smallest image, and nothing of a smaller one."""
    sized = name == "capsnet"
    model = timm.create_model(name, num_classes=LABELS, in_chans=3, **{"img_size": smallest} if sized else {}).eval()
    assert model(torch.randn(1, 3, smallest, smallest)).isfinite().all()
    with pytest.raises(ValueError, match=rf"{smallest}.* not .*{smallest - 1} x {smallest - 1}"):
        if sized:
            timm.create_model(name, img_size=smallest - 1)
        model(torch.randn(1, 3, smallest - 1, smallest - 1))
