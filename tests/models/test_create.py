import pytest
import torch

from hpa_search.models.create import cause, create_backbone, first_layers, meta_backbone, usual_size


def test_a_backbone_on_meta_has_shapes_and_is_made_once():
    made = meta_backbone("test_resnet", "gap", 512)
    assert made is meta_backbone("test_resnet", "extra_blocks", 64)
    assert {weight.device.type for weight in made.parameters()} == {"meta"}
    real = create_backbone("test_resnet", "gap", 512, channels=3)
    assert {name: w.shape for name, w in made.state_dict().items()} == {name: w.shape for name, w in real.state_dict().items()}


def test_only_a_model_that_is_built_for_one_size_differs_with_the_size():
    assert create_backbone("test_vit", "downsize", 64, channels=3).pos_embed.shape[1] == 1 + (64 // 16) ** 2
    assert create_backbone("test_vit", "downsize", 128, channels=5).patch_embed.proj.weight.shape[1] == 5


@pytest.mark.parametrize(
    ("backbone", "layers", "size"),
    [
        ("resnet18", ("conv1",), 224),
        ("plain_cnn", ("blocks.0.conv",), 128),
        ("capsnet", ("conv",), 32),
        ("inception_v3", None, 299),
    ],
)
def test_what_timm_records_of_a_backbone(backbone, layers, size):
    assert layers is None or first_layers(backbone) == layers
    assert usual_size(backbone) == size
    for layer in first_layers(backbone):
        assert meta_backbone(backbone, "downsize", size).get_parameter(f"{layer}.weight").shape[1] == 3


def test_a_cause_is_one_line():
    assert cause(ValueError("first\nsecond")) == "first"
    assert cause(AssertionError()) == "AssertionError"
    with pytest.raises(RuntimeError) as error:
        torch.nn.Linear(2, 2).load_state_dict({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)})
    assert "size mismatch for weight" in cause(error.value)
    assert "\n" not in cause(error.value)
