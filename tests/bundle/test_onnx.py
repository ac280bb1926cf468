"""The graph, run by onnxruntime, against the bundle's own predictions."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from scipy.special import expit

from hpa_search.bundle.export import Candidate, write_bundle
from hpa_search.bundle.manifest import read_manifest
from hpa_search.bundle.onnx import LARGEST, write_onnx
from hpa_search.bundle.predict import bundle_probabilities
from hpa_search.config import TrialConfig
from hpa_search.data.resize import resize
from hpa_search.errors import UserError
from hpa_search.labels import LABELS
from hpa_search.models.build import build_network
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.ensemble import NOBODY
from hpa_search.scoring.thresholds import DecisionRule

pytestmark = pytest.mark.long

MEAN, STD = (0.1, 0.2, 0.3, 0.4), (0.2, 0.2, 0.2, 0.2)
SIZE = 96
RULE = DecisionRule(Platt(np.linspace(0.4, 1.6, 28), np.linspace(-1, 1, 28)), np.linspace(0.35, 0.95, 28))
MEMBERS = (
    {"small_size": 64},
    {"resolution": "crop", "full_size": 80, "crop_size": 48, "channels": "g"},
    {"small_size": 48, "normalise": "image", "channels": "learned", "head": "avg_max", "hidden_size": 16},
)


class InMemory:
    """Images in memory that resize as the pack does."""

    def __init__(self, pixels):
        self.pixels = pixels

    def gather(self, rows):
        return self.pixels[rows]

    def at_size(self, px):
        return InMemory(resize(self.pixels, px))


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Write a bundle of untrained networks, its graph, and return the bundle, the outcome and the images."""

    def write(settings, images=None, tta="none", rule=RULE, labels=(), native=SIZE, spread=0.5):
        members, folder = [], tmp_path_factory.mktemp("onnx")
        for number, setting in enumerate(settings):
            torch.manual_seed(number)
            config = TrialConfig(**{"backbone": "test_resnet", "batch_size": 4, **setting})
            network = build_network(config, MEAN, STD)
            if hasattr(network.head, "classifier"):
                torch.nn.init.normal_(network.head.classifier.weight, std=spread)
            weights = folder / f"{number}.safetensors"
            safetensors.torch.save_file(network.state_dict(), weights)
            trained_for = labels[number] if number < len(labels) else None
            members.append(
                (
                    Candidate("s", number, 1, config, weights, trained_for),
                    1 / len(settings),
                    Platt(np.full(28, 1 / (0.5 + number)), np.zeros(28)),
                )
            )
        bundle = folder / "bundle"
        manifest = write_bundle(bundle, "s", members, rule, mean=MEAN, std=STD, provenance={"native_size": native}, tta=tta)
        if images is None:
            images = np.random.default_rng(0).integers(0, 256, (5, 4, native, native), dtype=np.uint8)
        return bundle, write_onnx(bundle, manifest, images), images

    return write


@pytest.fixture(scope="module")
def one(make):
    """The bundle of a single network; not to be changed."""
    return make(MEMBERS[:1])


def run(bundle, images):
    session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def check(bundle, outcome, images):
    """Hold the graph against `bundle_probabilities`, in one batch of all."""
    assert outcome.reason is None
    manifest = read_manifest(bundle)
    assert manifest == outcome.manifest
    expected = bundle_probabilities(bundle, manifest, InMemory(images), np.arange(len(images)))
    probabilities, labels = run(bundle, images)
    assert (probabilities.dtype, labels.dtype) == (np.float32, bool)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the networks tell nothing apart"
    if not torch.cuda.is_available():  # which computes in bfloat16
        assert np.abs(probabilities - expected).max() <= 1e-4
        near = np.abs(expected - manifest.decision_rule.thresholds) < 1e-4
        assert ((labels == manifest.decision_rule.decide(expected).labels) | near).all()
    return probabilities, labels


def test_members_of_all_sizes_crops_and_inputs_are_one_graph(make):
    check(*make(MEMBERS))


@pytest.mark.parametrize("tta", ["mean", "max"])
def test_eight_views(make, tta):
    check(*make(MEMBERS[1:2], tta=tta))


def test_networks_that_are_too_sure_are_clipped_at_the_same_place(make):
    """Log odds of 50, which a flat calibration brings back to where one sees them."""
    rule = DecisionRule(Platt(np.full(28, 0.05), np.full(28, -1.0)), np.full(28, 0.6))
    probabilities, _ = check(*make(MEMBERS[:1], spread=400.0, rule=rule))
    assert np.isclose(probabilities, expit(0.05 * 50 - 1)).sum() > 5


OURS = (
    {"backbone": "plain_cnn", "small_size": 64, "channels": "rgby"},
    {"backbone": "gapnet_pl", "resolution": "gap", "full_size": 80, "channels": "rgby"},
    {"backbone": "capsnet", "small_size": 32},
)
TIMMS = (
    {"backbone": "test_vit", "small_size": 64},
    {"backbone": "test_convnext", "small_size": 96},
    {"backbone": "test_efficientnet", "small_size": 72, "head": "hidden", "hidden_size": 8},
    {"backbone": "test_resnet", "resolution": "extra_blocks", "full_size": 96},
)


@pytest.mark.parametrize("settings", [OURS, TIMMS], ids=["ours", "timms"])
def test_networks_of_every_kind(make, settings):
    check(*make(settings))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_b0", "densenet121", "vit_tiny_patch16_224", "convnext_atto"])
def test_networks_of_full_depth(make, backbone):
    check(*make([{"backbone": backbone, "small_size": 96}], spread=20.0 if backbone == "efficientnet_b0" else 0.5))


def test_real_fields(make, real_fields):
    settings = ({"small_size": 224}, {"resolution": "crop", "full_size": 512, "crop_size": 384, "channels": "rgby"})
    _, labels = check(*make(settings, real_fields, native=512))
    assert labels.any(axis=1).all()


def test_members_for_some_labels_leave_rows_empty(make):
    rule = dataclasses.replace(RULE, thresholds=np.full(28, 0.999), fill=False)
    probabilities, labels = check(*make(MEMBERS[:2], rule=rule, labels=(tuple(range(3)), tuple(range(2, 9)))))
    unknown = expit(RULE.platt.slope * NOBODY + RULE.platt.offset)
    np.testing.assert_allclose(probabilities[:, 9:], np.tile(unknown[9:], (5, 1)), rtol=1e-5)
    assert not labels.any()


def test_the_graph_takes_any_number_of_images_of_its_size(one):
    bundle, _, images = one
    for count in (1, 2, 7):
        probabilities, labels = run(bundle, images[[0] * count])
        assert probabilities.shape == labels.shape == (count, 28)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        run(bundle, images[:, :, :64, :64])


def test_the_file_is_listed_and_a_changed_one_refused(one, tmp_path):
    bundle, outcome, _ = one
    assert outcome.manifest.onnx.pixels == SIZE
    assert outcome.manifest.onnx.size == (bundle / "model.onnx").stat().st_size
    shutil.copytree(bundle, tmp_path / "copy")
    with (tmp_path / "copy" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=r"model\.onnx: damaged or foreign"):
        read_manifest(tmp_path / "copy")


def test_it_is_the_same_file_each_time(one, tmp_path):
    bundle, outcome, images = one
    shutil.copytree(bundle, tmp_path / "copy")
    (tmp_path / "copy" / "model.onnx").unlink()
    assert write_onnx(tmp_path / "copy", outcome.manifest, images).manifest == outcome.manifest
    assert (tmp_path / "copy" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()


def test_it_is_sound_and_knows_nothing_of_this_machine(one):
    bundle, _, _ = one
    model = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    noted = {entry.key: entry.value for entry in model.metadata_props}
    assert noted["bundle"] == "s" and json.loads(noted["labels"]) == list(LABELS)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # in numbers any three letters turn up
    content = model.SerializeToString()
    for trace in (b".py", b"hpa_search", b"pkg.torch", b"File ", str(bundle.parent.parent).encode()):
        assert trace not in content


def test_a_graph_that_says_something_else_is_not_kept(make, monkeypatch):
    monkeypatch.setattr("hpa_search.bundle.graph.LARGEST_LOGIT", 0.01)
    bundle, outcome, _ = make(MEMBERS[:1])
    assert "probabilities differ by" in outcome.reason
    assert sorted(path.suffix for path in bundle.iterdir()) == [".json", ".safetensors"]
    assert read_manifest(bundle) == outcome.manifest and outcome.manifest.onnx is None


def test_a_network_that_cannot_be_drawn_is_a_reason_and_no_error(make, monkeypatch):
    def fails(*arguments, **options):
        raise torch.onnx.OnnxExporterError("no such\noperator")

    monkeypatch.setattr(torch.onnx, "export", fails)
    bundle, outcome, _ = make(MEMBERS[:1])
    assert outcome.reason == "OnnxExporterError: no such operator"
    assert read_manifest(bundle).onnx is None


def test_weights_beyond_what_one_file_holds_are_a_reason(make, monkeypatch):
    monkeypatch.setattr("hpa_search.bundle.onnx.LARGEST", 1000)
    _, outcome, _ = make(MEMBERS[:1])
    assert "one file can hold" in outcome.reason
    assert LARGEST < 2**31


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 4, 64, 32), (4, 64, 64)])
def test_other_images_are_refused(make, shape):
    with pytest.raises(ValueError, match="expected uint8"):
        make(MEMBERS[:1], np.zeros(shape, dtype=np.uint8))
