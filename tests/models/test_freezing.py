import pytest
import torch
from torch import nn

from hpa_search.config import TrialConfig
from hpa_search.models.build import build_network
from hpa_search.models.create import meta_backbone, usual_size
from hpa_search.models.freezing import FREEZES, apply_freeze

LAST_BLOCKS = {
    "resnet18d": ("layer4.", 0.75),
    "resnet34": ("layer4.", 0.62),
    "resnet50d": ("layer4.", 0.64),
    "resnet152": ("layer4.", 0.26),
    "densenet121": ("features.denseblock4.", 0.31),
    "densenet161": ("features.denseblock4.", 0.36),
    "seresnext50_32x4d": ("layer4.", 0.63),
    "inception_v3": ("Mixed_7c.", 0.28),
    "inception_resnet_v2": ("block8.", 0.10),
    "efficientnetv2_rw_t": ("blocks.5.", 0.73),
    "tf_efficientnetv2_b0": ("blocks.5.", 0.77),
    "tf_efficientnetv2_b3": ("blocks.5.", 0.77),
    "hgnetv2_b4": ("stages.3.", 0.62),
    "mobilenetv4_hybrid_medium": ("blocks.3.", 0.79),
    "convnext_tiny": ("stages.3.", 0.56),
    "convnextv2_nano": ("stages.3.", 0.50),
    "tiny_vit_21m_224": ("stages.3.", 0.42),
    "hiera_tiny_224": ("blocks.11.", 0.26),
    "maxvit_tiny_tf_224": ("stages.3.", 0.59),
    "vit_small_patch14_dinov2": ("blocks.11.", 0.08),
    "test_resnet": ("layer4.", 0.72),
    "test_efficientnet": ("blocks.4.", 0.46),
    "resnet10t": ("layer4.", 0.75),
    "plain_cnn": ("hidden.", 0.95),
    "gapnet_pl": ("hidden.", 0.21),
    "capsnet": ("primary.", 0.97),
}
"""What the last block of a backbone begins with, and the share of the backbone's weights that is trained with it."""


def network_of(**settings):
    fixed = {"backbone": "test_resnet", "small_size": 64, "full_size": 64}
    return build_network(TrialConfig(**{**fixed, **settings}), [0.1] * 4, [0.2] * 4)


def step(network, freeze):
    """Train one step; return the names of the tensors, buffers among them, that it changed."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    apply_freeze(network, freeze)
    optimizer = torch.optim.SGD([weight for weight in network.parameters() if weight.requires_grad], lr=0.1)
    network(torch.randint(0, 256, (4, 4, 64, 64), dtype=torch.uint8)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def parts(names):
    return {".".join(name.split(".")[:2]) for name in names}


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("head", {"head.classifier", "blocks.0", "blocks.1"}),
        ("last_block", {"head.classifier", "blocks.0", "blocks.1", "backbone.layer4"}),
        ("stem_and_head", {"head.classifier", "blocks.0", "blocks.1", "backbone.conv1", "backbone.bn1", "input_stage.learned"}),
    ],
)
def test_a_step_changes_the_trained_weights_and_no_other_statistics(freeze, expected):
    network = network_of(resolution="extra_blocks", channels="learned")
    network.head.classifier.weight.data.normal_()
    assert parts(step(network, freeze)) == expected


def test_another_name_may_come_with_every_epoch():
    network = network_of(head="avg_max", hidden_size=8)
    everything = parts(step(network, "none"))
    assert {"backbone.conv1", "backbone.layer1", "backbone.layer4", "head.layers"} <= everything
    assert parts(step(network, "head")) == {"head.classifier", "head.layers"}
    assert parts(step(network, "none")) == everything


@pytest.mark.parametrize("freeze", FREEZES)
def test_the_network_is_left_in_training_mode(freeze):
    network = network_of(dropout=0.5).eval()
    apply_freeze(network, freeze)
    assert network.training
    assert network.head.training
    still = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d) and not module.training}
    assert bool(still) == (freeze != "none")


def test_a_norm_without_weights_goes_with_what_it_stands_in():
    network = network_of()
    network.backbone.layer1.add_module("plain_norm", nn.BatchNorm2d(8, affine=False))
    network.backbone.layer4.add_module("plain_norm", nn.BatchNorm2d(8, affine=False))
    apply_freeze(network, "last_block")
    assert not network.backbone.layer1.plain_norm.training
    assert network.backbone.layer4.plain_norm.training


@pytest.mark.parametrize(("backbone", "block"), LAST_BLOCKS.items())
def test_the_last_block_is_a_sensible_share_of_every_backbone(backbone, block):
    begins, share = block
    made = meta_backbone(backbone, "downsize", usual_size(backbone))
    trained = FREEZES["last_block"](made).backbone
    weights = {name: weight.numel() for name, weight in made.named_parameters()}
    assert next(name for name in weights if name in trained).startswith(begins)
    assert {name for name in weights if name.startswith(begins)} <= trained
    assert sum(weights[name] for name in trained) / sum(weights.values()) == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize("backbone", LAST_BLOCKS)
def test_the_stem_has_the_first_convolution_and_little_else(backbone):
    made = meta_backbone(backbone, "downsize", usual_size(backbone))
    stem = FREEZES["stem_and_head"](made)
    weights = {name: weight.numel() for name, weight in made.named_parameters()}
    assert stem.input_stage
    assert f"{made.pretrained_cfg['first_conv']}.weight" in stem.backbone
    assert sum(weights[name] for name in stem.backbone) / sum(weights.values()) < 0.05
    assert not stem.backbone & FREEZES["last_block"](made).backbone


@pytest.mark.parametrize("freeze", ["last_block", "stem_and_head"])
def test_a_model_without_such_parts_is_refused(freeze):
    with pytest.raises(ValueError, match="does not name its parts"):
        apply_freeze(network_of(backbone="caformer_s18"), freeze)


def test_a_model_of_one_part_has_no_last_block():
    network = network_of(backbone="capsnet", small_size=32)
    network.backbone.primary = nn.Identity()
    with pytest.raises(ValueError, match="no block apart from its stem"):
        apply_freeze(network, "last_block")
    with pytest.raises(ValueError, match="freeze: expected one of"):
        apply_freeze(network, "body")
