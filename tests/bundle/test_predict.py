import hashlib
import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from hpa_search.bundle.manifest import MANIFEST, read_manifest
from hpa_search.bundle.predict import bundle_probabilities, network_logits
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
            expected += member.weight * network.eval()(pixels).double().sigmoid().numpy()
    assert np.abs(found - expected).max() < 5e-3  # half precision on some devices
    assert np.ptp(found, axis=0).max() > 0.02
    assert seen == [(1, 2), (2, 2)]


def test_rows_may_be_asked_for_in_any_order(export, images):
    bundle, manifest = export()
    member = manifest.members[0]
    every, some = (
        network_logits(member.config, bundle / member.file, manifest.mean, manifest.std, images, np.array(rows))
        for rows in (range(7), [5, 0, 3])
    )
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
    with pytest.raises(UserError, match="no numbers"):
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
