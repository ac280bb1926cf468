"""What `finish` does otherwise than the space file says: folds, eight views, other rules, the graph."""

import numpy as np
import onnxruntime
import pytest

from hpa_search.bundle.manifest import read_manifest
from hpa_search.bundle.predict import bundle_probabilities
from hpa_search.errors import UserError
from hpa_search.finish.folds import gather, prepare_folds
from hpa_search.finish.material import read_material
from hpa_search.finish.stage import finish
from hpa_search.finish.summary import summary
from hpa_search.phantom.dataset import make_phantom
from hpa_search.scoring.final import FinalChoice
from tests.finish.test_folds import quiet, train_here

pytestmark = pytest.mark.long

SPACE = """
name: options
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}, channels: {choice: [rgby, g]}}
budget: {trials: 2}
scheduler: {kind: none, max_epochs: 2}
split: {folds: 3, test: 0.2}
final: {onnx: false}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory, train):
    folder = tmp_path_factory.mktemp("options")
    make_phantom(folder / "data", images=110, size=32, seed=0, lift=4, test_images=2)
    return folder, train(folder / "out", SPACE, folder / "data", folder / "cache")


def on_other_folds(cache):
    def trainer(material, members):
        searches = prepare_folds(material, members, cache=cache, console=quiet())
        for search in searches:
            train_here(search)
        return gather(material, members, searches, console=quiet())

    return trainer


def test_with_folds_a_member_is_as_many_networks_and_all_rows_but_the_tests_choose(searched):
    folder, out = searched
    measured = finish(out, folder / "cache", train_folds=on_other_folds(folder / "cache"), changes={"max_members": 2})
    members, rows = measured.members, measured.rows
    names = ("options", "options-fold-1", "options-fold-2")
    own, *others = [sorted(one.weight for one in members if one.source.search == name) for name in names]
    assert 3 * len(own) == len(members) and 3 * sum(own) == pytest.approx(1)
    assert others == [pytest.approx(own)] * 2
    assert measured.nested.rows == rows["train"] + rows["validation"] and measured.nested.networks == 3
    assert any("options-fold-1 trial" in line for line in summary(out, measured))
    assert len(read_manifest(out / "bundle").members) == len(members)


def test_a_training_on_folds_that_was_stopped_leaves_the_bundle_as_it_was(searched):
    folder, out = searched
    finish(out, folder / "cache")
    before = (out / "bundle" / "bundle.json").read_bytes()
    assert finish(out, folder / "cache", train_folds=lambda material, members: None) is None
    assert (out / "bundle" / "bundle.json").read_bytes() == before


@pytest.mark.parametrize("tta", ["mean", "max"])
def test_thresholds_are_fitted_to_what_the_members_say_by_eight_views(searched, tta):
    folder, out = searched
    measured = finish(out, folder / "cache", changes={"tta": tta})
    manifest, material = read_manifest(out / "bundle"), read_material(out, folder / "cache", None, (), print)
    assert (manifest.tta, measured.tta) == (tta, tta)
    rows = material.split.validation
    probabilities = bundle_probabilities(out / "bundle", manifest, material.images, rows)
    logits = np.log(probabilities / (1 - probabilities))
    # The rule was fitted to these very logits: fitted again to the calibrated ones, it finds nothing left to do.
    again = FinalChoice().rule(logits, material.labels(rows))
    common = material.labels(rows).sum(axis=0) > 5
    assert np.abs(again.platt.slope[common] - 1).max() < 0.3
    assert f"the {tta} over eight views" in summary(out, measured)[0]


def test_the_graph_labels_as_the_bundle_does(searched):
    folder, out = searched
    finish(out, folder / "cache", changes={"onnx": True})
    manifest, material = read_manifest(out / "bundle"), read_material(out, folder / "cache", None, (), print)
    assert manifest.onnx is not None
    session = onnxruntime.InferenceSession(out / "bundle" / manifest.onnx.file, providers=["CPUExecutionProvider"])
    probabilities, labels = session.run(None, {"images": material.images.gather(material.split.test)})
    stored = np.load(out / "test_predictions.npz")["probabilities"]
    np.testing.assert_allclose(probabilities, stored, atol=1e-4)
    near = np.abs(stored - manifest.decision_rule.thresholds) < 1e-4
    assert ((labels == manifest.decision_rule.decide(stored).labels) | near).all()


def test_another_rule_and_the_best_single_trial(searched):
    folder, out = searched
    measured = finish(out, folder / "cache", changes={"thresholds": "half", "ensemble": "single"})
    manifest = read_manifest(out / "bundle")
    assert len(measured.members) == 1 and (manifest.decision_rule.thresholds == 0.5).all()
    assert measured.test.difference.value == 0
    assert measured.runner_up.source.trial != measured.best_single.trial


@pytest.mark.parametrize(
    ("changes", "message"), [({"thresholds": "plugin"}, "did you mean 'plug_in'"), ({"max_members": 0}, "max_members")]
)
def test_wishes_that_cannot_be_met_are_refused(searched, changes, message):
    folder, out = searched
    with pytest.raises(UserError, match=message):
        finish(out, folder / "cache", changes=changes)
