"""The bundle and `predict` say of the test rows what `finish` stored of them."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from hpa_search.bundle.labelling import predict_folder
from hpa_search.bundle.manifest import read_manifest
from hpa_search.bundle.predict import OpenBundle, bundle_probabilities
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.finish.stage import finish
from hpa_search.labels import parse_target, to_vector
from hpa_search.phantom.dataset import make_phantom

pytestmark = pytest.mark.long

SPACE = """
name: reproduce
fixed: {full_size: 48, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {channels: {choice: [rgby, g]}}
budget: {trials: 2}
scheduler: {kind: none, max_epochs: 1}
final: {onnx: false}
split: {train: 0.5, validation: 0.25, test: 0.25}
"""
CLOSE = 5e-3 if torch.cuda.is_available() else 1e-6  # a batch of other rows may be computed in another order


@pytest.fixture(scope="module")
def finished(tmp_path_factory, train):
    folder = tmp_path_factory.mktemp("reproduce")
    make_phantom(folder / "data", images=120, size=48, seed=0, lift=4, test_images=6)
    out = train(folder / "out", SPACE, folder / "data", folder / "cache")
    finish(out, folder / "cache")
    return folder, dict(np.load(out / "test_predictions.npz"))


def test_predict_gives_the_stored_probabilities_and_their_labels(finished, tmp_path, monkeypatch):
    folder, stored = finished
    (tmp_path / "list.csv").write_text("Id\n" + "\n".join(stored["ids"]) + "\n")
    rule = read_manifest(folder / "out" / "bundle").decision_rule
    monkeypatch.setattr("hpa_search.bundle.labelling.CHUNK", 7)
    predict_folder(
        folder / "out" / "bundle",
        folder / "data",
        tmp_path / "s.csv",
        folder / "cache",
        console=Console(file=io.StringIO()),
        listed=tmp_path / "list.csv",
        probabilities=tmp_path / "p.npz",
    )
    found = np.load(tmp_path / "p.npz")
    assert list(found["ids"]) == list(stored["ids"])
    np.testing.assert_allclose(found["probabilities"], stored["probabilities"], atol=CLOSE)
    rows = [line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    assert [identifier for identifier, _ in rows] == list(stored["ids"])
    labels = np.stack([to_vector(parse_target(target)) for _, target in rows])
    near = np.abs(stored["probabilities"] - rule.thresholds) < CLOSE
    assert ((labels == rule.decide(stored["probabilities"]).labels) | near).all()


def test_the_bundle_gives_them_to_the_last_bit(finished):
    folder, stored = finished
    bundle = folder / "out" / "bundle"
    manifest, dataset = read_manifest(bundle), read_dataset(folder / "data")
    images = pack(dataset.train_folder, dataset.ids, folder / "cache")
    rows = np.array([dataset.ids.index(identifier) for identifier in stored["ids"]])
    for found in (
        bundle_probabilities(bundle, manifest, images, rows),
        OpenBundle(bundle, manifest).probabilities(images, rows),
    ):
        np.testing.assert_array_equal(found, stored["probabilities"])
