import hashlib
import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.special import expit

from hpa_search.bundle.manifest import MANIFEST, read_manifest
from hpa_search.bundle.predict import OpenBundle, bundle_probabilities, member_files, network_logits
from hpa_search.data.packed import pack
from hpa_search.errors import UserError
from hpa_search.models.build import build_network

IDS = tuple("abcdefg")


@pytest.fixture
def images(tmp_path, write_images):
    write_images(tmp_path / "images", IDS)
    return pack(tmp_path / "images", IDS, tmp_path / "cache")


def replace_weights(bundle, state=None, content=None):
    """Put other weights into the bundle, with the hash that fits them."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    path = bundle / manifest["members"][0]["file"]
    path.write_bytes(content if content is not None else safetensors.torch.save(state))
    manifest["members"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_the_probabilities_are_those_of_the_networks_averaged(export, images):
    bundle, manifest = export()
    seen = []
    found = bundle_probabilities(bundle, manifest, images, np.arange(7), lambda done, total: seen.append((done, total)))
    expected = np.zeros((7, 28))
    for member in manifest.members:
        network = build_network(member.config, manifest.mean, manifest.std)
        network.load_state_dict(safetensors.torch.load_file(bundle / member.file))
        pixels = torch.from_numpy(images.at_size(member.config.input_size).gather(np.arange(7)))
        with torch.inference_mode():
            expected += member.weight * member.map.platt.logits(network.eval()(pixels).numpy())
    assert np.abs(found - expit(expected)).max() < 5e-3  # half precision on some devices
    assert np.ptp(found, axis=0).max() > 0.02
    assert seen == [(1, 2), (2, 2)]


class Turned:
    """Images a quarter turn round and mirrored."""

    def __init__(self, images):
        self.images = images

    def gather(self, rows):
        return np.ascontiguousarray(np.rot90(self.images.gather(rows), axes=(2, 3))[..., ::-1])

    def at_size(self, px):
        return Turned(self.images.at_size(px))


@pytest.mark.parametrize("tta", ["mean", "max"])
def test_with_eight_views_a_bundle_judges_a_turned_image_as_the_image_itself(export, images, tta):
    bundle, plain = export()
    manifest = plain.model_copy(update={"tta": tta})
    found, turned, once = (
        bundle_probabilities(bundle, which, seen, np.arange(7))
        for which, seen in ((manifest, images), (manifest, Turned(images)), (plain, images))
    )
    np.testing.assert_allclose(turned, found, atol=5e-3 if torch.cuda.is_available() else 1e-6)
    assert np.abs(found - once).max() > 0.01
    if tta == "max":
        assert (found >= once - 1e-6).all()


def test_eight_views_of_one_network_are_those_of_the_bundle(export, images):
    bundle, manifest = export(shares=(1.0, 0.0))
    member = manifest.members[0]
    given = member_files(bundle, manifest)[0], images, np.arange(7)
    logits = network_logits(*given, tta="mean")
    found = bundle_probabilities(bundle, manifest.model_copy(update={"tta": "mean"}), images, np.arange(7))
    np.testing.assert_allclose(expit(member.map.platt.logits(logits)), found, atol=1e-9)
    assert np.abs(logits - network_logits(*given)).max() > 0.01


def test_networks_in_memory_predict_what_a_bundle_on_disk_does(export, images):
    bundle, manifest = export()
    networks = OpenBundle(bundle, manifest)
    for rows in ([5, 0, 3], [1, 2, 4]):
        found = networks.probabilities(images, np.array(rows))
        np.testing.assert_array_equal(found, bundle_probabilities(bundle, manifest, images, np.array(rows)))


def test_rows_may_be_asked_for_in_any_order(export, images):
    bundle, manifest = export()
    file = member_files(bundle, manifest)[0]
    every, some = (network_logits(file, images, np.array(rows)) for rows in (range(7), [5, 0, 3]))
    np.testing.assert_allclose(some, every[[5, 0, 3]], atol=5e-2)


def test_weights_that_do_not_fit_are_refused_by_file_name(export, images):
    bundle, _ = export()
    replace_weights(bundle, state={"classifier.weight": torch.zeros(3)})
    manifest = read_manifest(bundle)
    with pytest.raises(UserError, match=rf"{manifest.members[0].file}: its weights do not fit .*size mismatch|Missing key"):
        bundle_probabilities(bundle, manifest, images, np.arange(2))


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, pickle.dumps({"classifier.weight": 1})])
def test_what_is_no_safetensors_is_refused_and_never_unpickled(export, images, content, monkeypatch):
    bundle, _ = export()
    replace_weights(bundle, content=content)
    manifest = read_manifest(bundle)
    forbid_pickle(monkeypatch)
    with pytest.raises(UserError, match="do not fit"):
        bundle_probabilities(bundle, manifest, images, np.arange(2))


def test_weights_that_give_no_numbers_are_refused(export, images, candidates):
    bundle, _ = export()
    state = safetensors.torch.load_file(candidates[0].weights)
    replace_weights(bundle, state={**state, "head.classifier.bias": torch.full((28,), torch.nan)})
    with pytest.raises(UserError, match="not finite"):
        bundle_probabilities(bundle, read_manifest(bundle), images, np.arange(2))


@pytest.mark.parametrize("backbone", ["no_such_net", "hf_hub:someone/something", "../test_resnet"])
def test_an_unknown_backbone_is_refused(export, images, backbone):
    bundle, _ = export()
    content = json.loads((bundle / MANIFEST).read_text())
    content["members"][0]["config"]["backbone"] = backbone
    (bundle / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(UserError, match="timm knows no model"):
        bundle_probabilities(bundle, read_manifest(bundle), images, np.arange(2))


def forbid_pickle(monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("something was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, forbidden)
