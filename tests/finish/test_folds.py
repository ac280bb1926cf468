"""The members trained on the other folds, without Ray: what is prepared, what comes of it, and what is refused."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from hpa_search.bundle.predict import network_logits
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.splits import read_split
from hpa_search.errors import UserError
from hpa_search.finish.folds import gather, prepare_folds, train_folds
from hpa_search.finish.material import read_material
from hpa_search.ledger.ledger import Ledger
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.search.workspace import read_workspace
from hpa_search.stains import COLOURS
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import open_trial, trial_folder

pytestmark = pytest.mark.long

SPACE = """
name: folded
fixed: {{full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet, schedule: one_cycle}}
space: {{learning_rate: {{log_range: [1.0e-3, 1.0e-2]}}, channels: {{choice: [rgby, g]}}}}
budget: {{trials: {trials}}}
scheduler: {{kind: none, max_epochs: {epochs}}}
split: {split}
"""
SPLIT = "{folds: 3, test: 0.2}"


def space(split=SPLIT, trials=1, epochs=1):
    return SPACE.format(split=split, trials=trials, epochs=epochs)


def quiet():
    return Console(file=io.StringIO(), width=400)


def spoken(console):
    return console.file.getvalue()


def train_here(search, spoil=()):
    """Train what waits in a fold's search, in this process; trials ``spoil`` fail."""
    agenda = Agenda(search.search, Ledger.create(search.out, search.search.name), slots=1, spent_seconds=lambda: 0.0)
    epochs = 0
    while (leg := agenda.next()) is not None:
        if leg.number in spoil:
            agenda.fail(leg.number, "the disk is on fire")
            continue
        trial = open_trial(search.job, leg.number, leg.parameters)
        while not agenda.report(leg.number, EpochReport.of(trial.run_epoch())):
            epochs += 1
        trial.close()
        epochs += 1
    return epochs


def read(folder, out=None, also=()):
    return read_material(out or folder / "out", folder / "cache", None, also, print)


def members_of(material):
    """Three members: the best two candidates, and one trial at an epoch that is not its last."""
    epochs = {(one.trial, one.epoch): one for one in material.pool.candidates}
    last = {trial: max(epoch for number, epoch in epochs if number == trial) for trial, _ in epochs}
    return [epochs[trial, last[trial]] for trial in sorted(last)] + [one for key, one in epochs.items() if key[1] < last[key[0]]][
        :1
    ]


@pytest.fixture(scope="module")
def searched(tmp_path_factory, train):
    folder = tmp_path_factory.mktemp("folded")
    make_phantom(folder / "data", images=110, size=32, seed=0, lift=4, test_images=2)
    train(folder / "out", space(trials=2, epochs=2), folder / "data", folder / "cache")
    return folder


@pytest.fixture(scope="module")
def trained(searched):
    """The material, the members, and the folds' searches after training, in an OUT of their own."""
    out = searched / "trained"
    shutil.copytree(searched / "out", out)
    material = read(searched, out)
    members = members_of(material)
    searches = prepare_folds(material, members, cache=searched / "cache", console=quiet())
    for search in searches:
        train_here(search)
    return material, members, searches


def test_each_row_is_judged_by_the_network_that_never_saw_it(trained):
    material, members, searches = trained
    found = gather(material, members, searches, console=quiet())
    split = material.split
    assert np.array_equal(found.rows, np.setdiff1d(np.arange(len(material.images)), split.test))
    assert found.kept == tuple(range(len(members))) and found.logits.dtype == np.float32
    for index, candidates in enumerate(found.candidates):
        assert candidates[0] is members[index]
        for fold, candidate in enumerate(candidates):
            mine = found.rows[found.fold == fold]
            logits = network_logits(material.network(candidate), material.images, mine)
            assert np.allclose(found.logits[index][found.fold == fold], logits, atol=0.02)
            if fold:
                there = read_split(searches[fold - 1].out / "split.csv", material.dataset.ids)
                assert np.array_equal(there.validation, mine) and not np.intersect1d(there.train, [*mine, *split.test]).size
    own = read_logits(trial_folder(material.out, members[0].trial))[members[0].epoch]
    assert np.array_equal(found.logits[0][found.fold == 0], own.astype(np.float32))


def test_each_member_has_its_own_configuration_epochs_and_weights(trained):
    material, members, searches = trained
    found = gather(material, members, searches, console=quiet())
    for member, candidates in zip(members, found.candidates, strict=True):
        assert [candidate.search for candidate in candidates] == ["folded", "folded-fold-1", "folded-fold-2"]
        assert all((one.config, one.epoch, one.labels) == (member.config, member.epoch, member.labels) for one in candidates)
        for candidate in candidates[1:]:
            folder = trial_folder(candidate.weights.parents[3], candidate.trial)
            rates = pd.read_csv(folder / "metrics.csv").learning_rate
            assert len(rates) == member.epoch
            own = pd.read_csv(trial_folder(material.out, member.trial) / "metrics.csv").learning_rate[: member.epoch]
            assert np.allclose(rates, own, rtol=0.1), "the schedule is laid out over the same epochs"
    weights = [candidate.weights.read_bytes() for candidates in found.candidates for candidate in candidates]
    assert len(set(weights)) == len(weights)


def test_what_is_trained_is_found_again_and_nothing_is_trained_anew(trained, searched):
    material, members, searches = trained
    before = gather(material, members, searches, console=quiet())
    console = quiet()
    again = train_folds(material, members, cache=searched / "cache", ray_address="nowhere:1", console=console)
    assert again is not None and np.array_equal(again.logits, before.logits) and again.candidates == before.candidates
    fewer = train_folds(material, members[1:], cache=searched / "cache", ray_address="nowhere:1", console=console)
    assert fewer is not None and np.array_equal(fewer.logits, before.logits[1:])
    assert f"Fold 2: {len(members)} member(s)" in spoken(console) and "Training" not in spoken(console)


def test_mean_and_std_are_the_searchs_own(trained):
    material, _, searches = trained
    for search in searches:
        assert (search.job.mean, search.job.std) == (material.provenance.mean, material.provenance.std)


def test_a_member_that_fails_on_a_fold_is_left_out_by_name_and_tried_again(searched, tmp_path):
    shutil.copytree(searched / "out", tmp_path / "out")
    material, console = read(searched, tmp_path / "out"), quiet()
    members = members_of(material)[:2]
    searches = prepare_folds(material, members, cache=searched / "cache", console=console)
    train_here(searches[0], spoil=[0])
    train_here(searches[1])
    found = gather(material, members, searches, console=console)
    assert found.kept == (1,) and found.logits.shape[0] == 1
    name = f"folded trial {members[0].trial} epoch {members[0].epoch}"
    assert f"{name} is left out: its training without fold 1 failed (the disk is on fire)" in spoken(console)
    searches = prepare_folds(material, members, cache=searched / "cache", console=console)
    assert [search.done for search in searches] == [False, True]
    assert train_here(searches[0]) == members[0].epoch
    assert gather(material, members, searches, console=console).kept == (0, 1)


def test_no_member_left_is_said_so(searched, tmp_path):
    shutil.copytree(searched / "out", tmp_path / "out")
    material = read(searched, tmp_path / "out")
    members = members_of(material)[:1]
    searches = prepare_folds(material, members, cache=searched / "cache", console=quiet())
    for search in searches:
        train_here(search, spoil=[0])
    with pytest.raises(UserError, match="no member could be trained on every fold"):
        gather(material, members, searches, console=quiet())


def test_damaged_predictions_are_refused_by_folder(trained, searched, tmp_path):
    material, members, searches = trained
    path = trial_folder(searches[1].out, 1) / "logits.npz"
    kept = path.read_bytes()
    try:
        np.savez(path, epoch_001=np.zeros((3, 28), dtype=np.float16))
        with pytest.raises(UserError, match="0001: the weights or logits of epoch"):
            gather(material, members, searches, console=quiet())
    finally:
        path.write_bytes(kept)


def test_a_search_without_folds_is_told_what_to_write(searched, train, tmp_path):
    train(tmp_path / "out", space("{train: 0.6, validation: 0.2, test: 0.2}"), searched / "data", searched / "cache")
    material = read(searched, tmp_path / "out")
    with pytest.raises(UserError, match=r"write `split: \{folds: 5, test: 0.15\}` in its space file"):
        prepare_folds(material, material.pool.candidates[:1], cache=searched / "cache", console=quiet())


def test_a_split_without_its_folds_is_refused_by_name(searched, tmp_path):
    shutil.copytree(searched / "out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/split.csv", dtype=str)
    table[["Id", "Split"]].to_csv(tmp_path / "out/split.csv", index=False)
    material = read(searched, tmp_path / "out")
    with pytest.raises(UserError, match=r"split\.csv: the column Fold is missing"):
        prepare_folds(material, material.pool.candidates[:1], cache=searched / "cache", console=quiet())


def test_members_of_other_searches_are_refused(searched, train, tmp_path):
    train(tmp_path / "other", space(), searched / "data", searched / "cache")
    material = read(searched, also=[tmp_path / "other"])
    foreign = [one for one in material.pool.candidates if (tmp_path / "other") in one.weights.parents][:1]
    with pytest.raises(UserError, match=r"folded trial \d epoch \d is not a trial of .*leave --also out"):
        prepare_folds(material, foreign, cache=searched / "cache", console=quiet())


def test_other_data_is_refused(searched, tmp_path):
    shutil.copytree(searched / "data", tmp_path / "data")
    table = pd.read_csv(tmp_path / "data/train.csv", dtype=str)
    table.loc[0, "Target"] = "27 3"
    table.to_csv(tmp_path / "data/train.csv", index=False)
    material = read_material(searched / "out", searched / "cache", tmp_path / "data", (), print)
    with pytest.raises(UserError, match="holds a search on other data"):
        prepare_folds(material, material.pool.candidates[:1], cache=searched / "cache", console=quiet())


def test_external_images_that_show_a_folds_own_fields_are_not_trained_on_there(searched, train, tmp_path):
    """One external image is a copy of a field of fold 1, one of fold 0, which judged the search."""
    make_phantom(tmp_path / "more", images=10, size=32, seed=99, lift=0, test_images=1)
    dataset = read_dataset(searched / "data")
    split = read_split(searched / "out/split.csv", dataset.ids)
    rows = pd.read_csv(tmp_path / "more/train.csv", dtype=str)
    for fold in (0, 1):
        for colour in COLOURS:
            copied = dataset.ids[np.flatnonzero(split.fold == fold)[0]]
            shutil.copy(searched / f"data/train/{copied}_{colour}.png", tmp_path / f"more/train/fold{fold}_{colour}.png")
        rows.loc[len(rows)] = [f"fold{fold}", "0"]
    rows.to_csv(tmp_path / "more/train.csv", index=False)
    out = train(tmp_path / "out", space(), searched / "data", searched / "cache", tmp_path / "more")
    material = read(searched, out)
    assert material.provenance.external.used == (*range(10), 11)
    searches = prepare_folds(material, material.pool.candidates[:1], cache=searched / "cache", console=quiet())
    assert [search.job.external_rows for search in searches] == [tuple(range(11)), tuple(range(12))]
    assert read_workspace(searches[0].out)[1].external.used == tuple(range(11))
    (tmp_path / "more/train.csv").write_text((tmp_path / "more/train.csv").read_text().replace(",0\n", ",1\n"))
    with pytest.raises(UserError, match="external images are not those"):
        prepare_folds(material, material.pool.candidates[:1], cache=searched / "cache", console=quiet())
