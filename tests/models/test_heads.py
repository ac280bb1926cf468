import copy

import pytest
import timm
import torch
from timm.layers import SelectAdaptivePool2d
from torch import nn

import hpa_search.models.backbones  # noqa: F401  (registers them)
from hpa_search.config import TrialConfig
from hpa_search.models.heads import HEADS, build_head

SETTINGS = {"plain": {}, "hidden": {"hidden_size": 24}, "avg_max": {"hidden_size": 24}}


def make(head: str, backbone: str = "test_resnet", dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    body = timm.create_model(backbone, num_classes=0)
    config = TrialConfig(backbone=backbone, head=head, dropout=dropout, **SETTINGS.get(head, {}))
    return body, build_head(body, body.num_features, config)


def logits_of(body: nn.Module, head: nn.Module, size: int = 64, batch: int = 2) -> torch.Tensor:
    return head(body.forward_features(torch.randn(batch, 3, size, size)))


def test_settings_above_are_those_of_every_head():
    assert set(SETTINGS) == set(HEADS)


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet10t", "test_convnext", "test_efficientnet", "plain_cnn"])
@pytest.mark.parametrize("head", HEADS)
def test_every_weight_of_body_and_head_is_trained(head, backbone):
    body = timm.create_model(backbone, num_classes=0, in_chans=3)
    top = HEADS[head](body, body.num_features, TrialConfig(head=head, **SETTINGS[head]))
    logits = logits_of(body, top)
    assert logits.shape == (2, 28)
    logits.square().sum().backward()
    untrained = [name for part in (body, top) for name, weight in part.named_parameters() if weight.grad is None]
    assert untrained == []


@pytest.mark.parametrize("head", HEADS)
def test_ends_in_a_linear_layer_for_each_label(head):
    _, top = make(head)
    assert isinstance(top.classifier, nn.Linear)
    assert top.classifier.out_features == 28
    assert top.classifier.bias is not None
    assert list(dict(top.named_modules()))[-1] == "classifier"


@pytest.mark.parametrize("head", HEADS)
def test_the_weights_of_the_body_are_not_the_heads_too(head):
    body, top = make(head)
    size = body.head_hidden_size
    expected = {
        "plain": size * 28 + 28,
        "hidden": (size * 24 + 24) + (24 * 28 + 28),
        "avg_max": 2 * (2 * size) + (2 * size * 24 + 24) + 2 * 24 + (24 * 28 + 28),
    }
    assert sum(weight.numel() for weight in top.parameters()) == expected[head]


def test_plain_is_pooling_and_a_linear_layer():
    body, top = make("plain")
    features = torch.randn(3, body.num_features, 4, 4)
    torch.testing.assert_close(top(features), features.mean((2, 3)) @ top.classifier.weight.T + top.classifier.bias)


def test_hidden_by_hand():
    body, top = make("hidden")
    features = torch.randn(3, body.num_features, 4, 4)
    inner = top.layers[1]
    hidden = (features.mean((2, 3)) @ inner.weight.T + inner.bias).clamp(min=0)
    torch.testing.assert_close(top(features), hidden @ top.classifier.weight.T + top.classifier.bias)


def test_average_and_maximum_are_timms():
    body, top = make("avg_max")
    features = torch.randn(3, body.num_features, 4, 5)
    reference = SelectAdaptivePool2d(pool_type="catavgmax", flatten=True)
    torch.testing.assert_close(top.pool(features), reference(features))


def test_the_winners_layers_in_their_order():
    _, top = make("avg_max", dropout=0.5)
    kinds = [type(layer).__name__ for layer in top.layers]
    assert kinds == ["BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout"]
    assert [layer.p for layer in top.layers if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("head", HEADS)
def test_dropout_acts_in_training_alone(head):
    body, top = make(head, dropout=0.5)
    features = torch.randn(4, body.num_features, 4, 4)
    assert not torch.equal(top(features), top(features))
    top.eval()
    torch.testing.assert_close(top(features), top(features), rtol=0, atol=0)


@pytest.mark.parametrize("head", HEADS)
def test_one_image_is_enough_outside_training(head):
    body, top = make(head)
    assert logits_of(body.eval(), top.eval(), batch=1).shape == (1, 28)


@pytest.mark.parametrize("head", HEADS)
def test_logits_keep_float32_under_autocast(head):
    body, top = make(head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = body.forward_features(torch.randn(2, 3, 64, 64))
        assert features.dtype == torch.bfloat16
        assert top(features).dtype == torch.float32


def test_capsules_keep_float32_under_autocast():
    body, top = make("plain", "capsnet")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert logits_of(body, top, size=32).dtype == torch.float32


@pytest.mark.parametrize("head", HEADS)
def test_a_copy_of_the_network_pools_by_its_own_body(head):
    """Averaged weights are kept in such a copy; its head must not look back at the original."""
    body, top = make(head, "test_convnext")
    body_copy, top_copy = copy.deepcopy(nn.ModuleList([body, top]))
    assert top_copy.pool.backbone is body_copy
    assert top.pool.backbone is body


@pytest.mark.parametrize(
    ("backbone", "shape"),
    [("vit_tiny_patch16_224", (197, 192)), ("swin_tiny_patch4_window7_224", (7, 7, 768)), ("gapnet_pl", (224,))],
)
def test_average_and_maximum_want_a_map(backbone, shape):
    with torch.device("meta"), torch.no_grad():
        body, top = make("avg_max", backbone)
        channels = 4 if backbone == "gapnet_pl" else 3
        features = body.eval().forward_features(torch.empty(2, channels, 224, 224))
        assert features.shape[1:] == shape
        with pytest.raises(ValueError, match="not a channels x height x width map, which head 'avg_max' needs"):
            top(features)


@pytest.mark.parametrize("backbone", ["densenet121", "mobilenetv4_hybrid_medium", "convnext_tiny", "vgg16", "inception_v3"])
@pytest.mark.parametrize("head", HEADS)
def test_fits_the_usual_backbones(head, backbone):
    with torch.device("meta"), torch.no_grad():
        body, top = make(head, backbone)
        assert logits_of(body.eval(), top.eval(), size=128).shape == (2, 28)


def test_a_backbone_with_a_head_of_its_own_keeps_it():
    body, top = make("plain", "capsnet")
    assert logits_of(body, top, size=32).shape == (2, 28)
    for settings in ({"head": "hidden"}, {"head": "avg_max"}, {"dropout": 0.5}):
        with pytest.raises(ValueError, match="'capsnet' brings a head of its own; set head 'plain' and dropout 0"):
            build_head(body, body.num_features, TrialConfig(backbone="capsnet", **settings))


def test_an_unknown_head_is_refused():
    body, _ = make("plain")
    with pytest.raises(ValueError, match="head: expected one of 'plain', 'hidden', 'avg_max'.*did you mean 'hidden'"):
        build_head(body, body.num_features, TrialConfig(head="hiden"))
