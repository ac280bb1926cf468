"""Searches restricted to some labels, alone and beside a search for all; and images from elsewhere."""

import shutil

import numpy as np
import pandas as pd
import pytest

from hpa_search.bundle.manifest import read_manifest
from hpa_search.bundle.predict import bundle_probabilities
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.data.splits import read_split
from hpa_search.errors import UserError
from hpa_search.finish.stage import finish
from hpa_search.finish.summary import summary
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.workspace import read_workspace
from hpa_search.stains import COLOURS
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import trial_folder

pytestmark = pytest.mark.long

RARE = (8, 9, 10)
SPACE = """
name: {name}
fixed: {{full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet, learning_rate: {rate}}}
space: {{channels: {{choice: [rgby, g]}}, replicate: {{choice: [0, 1]}}}}
sampler: grid
scheduler: {{kind: none, max_epochs: 2}}
final: {{onnx: false}}
split: {{train: 0.6, validation: 0.2, test: 0.2, seed: {seed}}}
{more}
"""


def space(name, rate=3e-3, seed=0, more=""):
    return SPACE.format(name=name, rate=rate, seed=seed, more=more)


@pytest.fixture(scope="module")
def searches(tmp_path_factory, train):
    """A phantom with a search for all labels and one for three rare ones, on the same split."""
    folder = tmp_path_factory.mktemp("specialists")
    make_phantom(folder / "data", images=150, size=32, seed=0, lift=6, test_images=1)
    places = folder / "data", folder / "cache"
    train(folder / "all", space("all"), *places)
    train(folder / "rare", space("rare", more=f"labels: {list(RARE)}"), *places)
    return folder


def test_a_restricted_search_leaves_the_other_labels_as_they_were(searches):
    """Their logits are near their log prior: nothing of the loss has moved them apart."""
    logits = [read_logits(trial_folder(searches / name, 0))[2].astype(float) for name in ("all", "rare")]
    others = [label for label in range(28) if label not in RARE]
    assert read_workspace(searches / "rare")[1].classes == RARE
    spread = [one.std(axis=0) for one in logits]
    assert np.median(spread[1][others]) < np.median(spread[0][others])


def test_a_restricted_search_is_measured_on_its_labels_alone(searches):
    measured = finish(searches / "rare", searches / "cache")
    assert measured.labels == RARE
    text = "\n".join(summary(searches / "rare", measured))
    assert "over the 3 labels 8, 9, 10 alone" in text
    dataset = read_dataset(searches / "data")
    images = pack(dataset.train_folder, dataset.ids, searches / "cache")
    bundle = searches / "rare" / "bundle"
    manifest = read_manifest(bundle)
    found = manifest.decision_rule.thresholds <= bundle_probabilities(bundle, manifest, images, np.arange(20))
    assert not found[:, [label for label in range(28) if label not in RARE]].any()


def test_specialists_count_for_their_labels_alone(searches, tmp_path):
    out = tmp_path / "all"
    shutil.copytree(searches / "all", out)
    measured = finish(out, searches / "cache", also=[searches / "rare"])
    assert measured.labels == tuple(range(28))
    assert {member.source.search for member in measured.members} == {"all", "rare"}
    manifest = read_manifest(out / "bundle")
    alone = finish(searches / "all", searches / "cache")
    assert {member.source.search for member in alone.members} == {"all"}
    assert [member.labels for member in manifest.members if member.search == "rare"][0] == RARE
    covers = manifest.covers
    assert covers[:, [0, 25]].sum() == 2 * sum(member.search == "all" for member in manifest.members)
    assert "rare trial" in "\n".join(summary(out, measured))
    assert measured.best_single.search == "all"


def test_the_best_single_trial_is_one_that_knows_all_labels(searches, tmp_path):
    """In whatever order the searches are named."""
    out = tmp_path / "rare"
    shutil.copytree(searches / "rare", out)
    measured = finish(out, searches / "cache", also=[searches / "all"])
    assert measured.best_single.search == "all"
    assert "(all trial" in "\n".join(summary(out, measured))


def test_searches_of_one_name_keep_their_weights_apart(searches, train, tmp_path):
    out, other = tmp_path / "all", tmp_path / "other"
    shutil.copytree(searches / "all", out)
    train(other, space("all", rate=1e-3), searches / "data", searches / "cache")
    finish(out, searches / "cache", also=[other])
    files = [member.file for member in read_manifest(out / "bundle").members]
    assert len(set(files)) == len(files)
    with pytest.raises(UserError, match="named twice"):
        finish(out, searches / "cache", also=[out])


def test_searches_on_other_rows_are_not_combined(searches, train, tmp_path):
    train(tmp_path / "other", space("other", seed=1), searches / "data", searches / "cache")
    with pytest.raises(UserError, match="not on the same split of the same data"):
        finish(searches / "all", searches / "cache", also=[tmp_path / "other"])


@pytest.fixture(scope="module")
def elsewhere(searches, tmp_path_factory):
    """An external folder of 30 new images and two that are the dataset's own, one of them a validation image."""
    folder = tmp_path_factory.mktemp("elsewhere")
    make_phantom(folder / "more", images=30, size=32, seed=99, lift=0, test_images=1)
    dataset = read_dataset(searches / "data")
    split = read_split(searches / "all" / "split.csv", dataset.ids)
    rows = pd.read_csv(folder / "more/train.csv", dtype=str)
    for number, row in enumerate((split.train[0], split.validation[0])):
        for colour in COLOURS:
            shutil.copy(searches / f"data/train/{dataset.ids[row]}_{colour}.png", folder / f"more/train/own{number}_{colour}.png")
        rows.loc[len(rows)] = [f"own{number}", "0"]
    rows.to_csv(folder / "more/train.csv", index=False)
    return folder / "more"


def test_external_images_are_trained_on_and_those_that_would_give_the_answers_are_left_out(searches, elsewhere, train, tmp_path):
    said = []
    out = train(tmp_path / "out", space("more"), searches / "data", searches / "cache", elsewhere, said.append)
    external = read_workspace(out)[1].external
    assert external.images == 32
    assert external.used == tuple(range(31))
    assert any(line.startswith("External: 31 more training images; 1 left out") for line in said)
    assert (out / "split.csv").read_bytes() == (searches / "all" / "split.csv").read_bytes()
    with_more, without = (pd.read_csv(trial_folder(place, 0) / "metrics.csv").train_loss for place in (out, searches / "all"))
    assert (with_more != without).all()
    finish(out, searches / "cache")
    assert read_manifest(out / "bundle").provenance["external"]["more"]["images"] == 32


def test_what_was_seen_in_external_images_alone_is_known(searches, elsewhere, begin, tmp_path):
    """A label of external images counts as trained, in the objective and in the rule."""
    table = pd.read_csv(elsewhere / "train.csv", dtype=str)
    job, _ = begin(tmp_path / "out", space("more"), searches / "data", searches / "cache", elsewhere)
    positives = read_workspace(tmp_path / "out")[1].external.positives
    used = table.Target[:31].str.split().explode().astype(int)
    assert list(positives) == [int((used == label).sum()) for label in range(28)]


def test_a_copy_of_the_external_images_is_the_same_and_other_labels_are_not(searches, elsewhere, begin, tmp_path):
    places = searches / "data", searches / "cache"
    begin(tmp_path / "out", space("more"), *places, elsewhere)
    shutil.copytree(elsewhere, tmp_path / "copy", copy_function=shutil.copy)
    begin(tmp_path / "out", space("more"), *places, tmp_path / "copy")
    table = pd.read_csv(elsewhere / "train.csv", dtype=str)
    table.loc[0, "Target"] = "27 3"
    table.to_csv(tmp_path / "copy/train.csv", index=False)
    with pytest.raises(UserError, match="holds a search with the external images of"):
        begin(tmp_path / "out", space("more"), *places, tmp_path / "copy")


def test_a_search_is_gone_on_with_on_the_same_external_images_alone(searches, elsewhere, begin, tmp_path):
    places = searches / "data", searches / "cache"
    begin(tmp_path / "out", space("more"), *places, elsewhere)
    begin(tmp_path / "out", space("more"), *places, elsewhere)
    with pytest.raises(UserError, match="holds a search with the external images of"):
        begin(tmp_path / "out", space("more"), *places)
    begin(tmp_path / "plain", space("more"), *places)
    with pytest.raises(UserError, match="holds a search without external images"):
        begin(tmp_path / "plain", space("more"), *places, elsewhere)
