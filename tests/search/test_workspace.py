import json
import shutil
from importlib.metadata import version

import numpy as np
import pytest

from hpa_search import __version__
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.data.splits import read_split
from hpa_search.errors import UserError
from hpa_search.layout import PROVENANCE, SEARCH, SPLIT
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.workspace import Inputs, _check_empty, keep_changes, prepare, read_workspace
from hpa_search.space.parsing import parse_search

TEXT = "name: toy\nseed: 3\nfixed: {small_size: 32, full_size: 32}\nbudget: {trials: 2}\nobjective: {min_positives: 2}\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "data"
    make_phantom(folder, images=48, size=32, seed=1, lift=0, test_images=1, workers=1)
    return folder


@pytest.fixture
def ready(data, tmp_path):
    """Prepare ``out`` for a search, and keep what has changed if told so; return the job and what was said."""

    def run(out=tmp_path / "out", text=TEXT, root=data, cache=tmp_path / "cache", keeps=False):
        said = []
        dataset = read_dataset(root)
        inputs, search = Inputs(dataset, pack(dataset.train_folder, dataset.ids, cache)), parse_search(text, "toy.yaml")
        job = prepare(out, search, text, inputs, cache, said.append)
        if keeps:
            keep_changes(out, search, text, inputs)
        return job, said

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_preparing_again_changes_nothing(ready, tmp_path):
    job, said = ready()
    before = contents(tmp_path / "out")
    assert sorted(before) == [PROVENANCE, SEARCH, SPLIT]
    assert ready() == (job, said)
    assert contents(tmp_path / "out") == before
    assert (job.epochs, job.seed, job.objective, job.space.trial_config({}).small_size) == (27, 3, "macro_ap", 32)
    assert any("images" in line for line in said)
    assert f"over {len(job.classes)} of 28 classes" in said[1]


def test_what_is_prepared_can_be_read(ready, tmp_path, data):
    job, _ = ready()
    search, provenance = read_workspace(tmp_path / "out")
    assert search == parse_search(TEXT, "toy.yaml")
    assert provenance.data == str(data.resolve())
    assert tuple(provenance.classes) == job.classes
    assert np.allclose(provenance.mean, job.mean)
    assert all(0 < value < 1 for value in provenance.std)


def test_another_fold_may_judge_and_the_folds_are_the_same(ready, tmp_path, data):
    splits = []
    for fold in (0, 2):
        out = tmp_path / str(fold)
        ready(out=out, text=TEXT + f"split: {{folds: 3, test: 0.1, fold: {fold}}}\n")
        splits.append(read_split(out / SPLIT, read_dataset(data).ids))
    assert [split.judging for split in splits] == [0, 2]
    assert np.array_equal(splits[0].fold, splits[1].fold) and np.array_equal(splits[0].test, splits[1].test)
    assert not np.intersect1d(splits[0].validation, splits[1].validation).size


def test_comments_and_layout_of_the_search_file_do_not_make_another_search(ready):
    job, _ = ready()
    assert ready(text="# the same\n" + TEXT.replace("name: toy\n", "") + "name:   toy\n")[0] == job


@pytest.mark.parametrize(
    ("old", "new", "words"), [("seed: 3", "seed: 4", "seed differ"), ("name: toy", "name: b", "name differ")]
)
def test_another_search_is_refused_and_nothing_changes(ready, tmp_path, old, new, words):
    ready()
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=f"holds another search: {words}"):
        ready(text=TEXT.replace(old, new))
    assert contents(tmp_path / "out") == before


def test_other_data_is_refused_and_a_copy_elsewhere_is_not(ready, tmp_path, data):
    job, _ = ready()
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    moved, _ = ready(root=copy, keeps=True)
    assert moved.data == copy.resolve()
    assert (moved.classes, moved.mean) == (job.classes, job.mean)
    assert read_workspace(tmp_path / "out")[1].data == str(copy.resolve()), "the next one finds them by itself"
    before = contents(tmp_path / "out")
    table = (copy / "train.csv").read_text().splitlines()
    (copy / "train.csv").write_text("\n".join([table[0], table[1].split(",")[0] + ",27", *table[2:]]) + "\n")
    with pytest.raises(UserError, match="other data"):
        ready(root=copy)
    assert contents(tmp_path / "out") == before


def test_on_another_cluster_trials_may_get_something_else(ready, tmp_path):
    ready()
    text = TEXT + "resources: {cpus: 1, gpus: 0}  # a smaller one\n"
    before = contents(tmp_path / "out")
    assert ready(text=text)[0].space.resources.cpus == 1
    assert contents(tmp_path / "out") == before, "another driver may be at work"
    job, _ = ready(text=text, keeps=True)
    assert (tmp_path / "out" / SEARCH).read_text() == text
    assert job.space.resources.cpus == read_workspace(tmp_path / "out")[0].resources.cpus == 1
    with pytest.raises(UserError, match="holds another search: seed differ"):
        ready(text=TEXT.replace("seed: 3", "seed: 4"))


def test_out_can_be_moved(ready, tmp_path):
    job, _ = ready()
    (tmp_path / "out").rename(tmp_path / "moved")
    again, _ = ready(out=tmp_path / "moved")
    assert again.out == (tmp_path / "moved").resolve()
    assert again.classes == job.classes


def test_other_software_than_it_was_begun_with_is_named(ready, tmp_path):
    _, said = ready()
    provenance = json.loads((tmp_path / "out" / PROVENANCE).read_text())
    provenance["version"], provenance["packages"]["torch"] = "0.0.1", "1.0"
    (tmp_path / "out" / PROVENANCE).write_text(json.dumps(provenance))
    _, again = ready()
    (told,) = [line for line in again if line not in said]
    assert f"hpa-search 0.0.1 (now {__version__}), torch 1.0 (now {version('torch')})" in told
    assert "timm" not in told


def test_an_objective_without_a_class_is_refused_and_nothing_is_written(ready, tmp_path):
    with pytest.raises(UserError, match=r"no class has 47 positives \(objective.min_positives\)"):
        ready(text=TEXT.replace("min_positives: 2", "min_positives: 47"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["results.txt", SEARCH, SPLIT, "study.journal", ".git"])
def test_a_folder_that_holds_something_else_is_refused_and_kept(ready, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name}.*choose an empty or new folder"):
        ready()
    assert contents(tmp_path / "out") == {name: b"mine"}


@pytest.mark.parametrize(
    "name", ["lost+found/", ".snapshot/", "@eaDir/", ".DS_Store", ".nfs0000000001", "Thumbs.db", "desktop.ini"]
)
def test_what_a_volume_or_a_file_manager_leaves_is_no_foreign_file(ready, tmp_path, name):
    (tmp_path / "out").mkdir()
    there = tmp_path / "out" / name
    there.mkdir() if name.endswith("/") else there.write_text("the system's")
    job, _ = ready()
    assert ready()[0] == job and there.exists()


def test_nor_is_it_in_a_store(ready, tmp_path):
    with pytest.raises(UserError, match="thesis.tex"):
        _check_empty(tmp_path / "out", TEXT, tmp_path / "cache", [".DS_Store", "lost+found", "thesis.tex"])
    _check_empty(tmp_path / "out", TEXT, tmp_path / "cache", [".DS_Store", "lost+found"])


def test_a_file_in_the_place_of_out_is_refused_and_kept(ready, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        ready()
    assert (tmp_path / "out").read_text() == "mine"


def test_what_a_kill_between_the_files_left_is_gone_on_with(ready, tmp_path):
    job, _ = ready()
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / PROVENANCE).unlink()
    (tmp_path / "out" / f".{PROVENANCE}.77.abcd").write_text("{")
    assert ready()[0] == job
    (tmp_path / "out" / PROVENANCE).unlink()
    (tmp_path / "out" / SPLIT).unlink()
    assert ready()[0] == job
    assert {name: content for name, content in contents(tmp_path / "out").items() if not name.startswith(".")} == whole


def test_the_cache_may_lie_in_out(ready, tmp_path):
    out = tmp_path / "out"
    assert ready(out=out, cache=out / "cache")[0] == ready(out=out, cache=out / "cache")[0]


@pytest.mark.parametrize("name", [SEARCH, PROVENANCE])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"data": 3}'])
def test_a_damaged_workspace_is_refused_by_file_name(ready, tmp_path, name, content):
    ready()
    (tmp_path / "out" / name).write_bytes(content)
    for attempt in (ready, lambda: read_workspace(tmp_path / "out")):
        with pytest.raises(UserError, match=name if content != b"\xff\xfe" else "out"):
            attempt()


def test_a_damaged_split_is_refused_by_file_name(ready, tmp_path):
    ready()
    lines = (tmp_path / "out" / SPLIT).read_text().splitlines()
    (tmp_path / "out" / SPLIT).write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match=SPLIT):
        ready()


def test_no_search_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(UserError, match="no search here"):
            read_workspace(path)


def test_the_provenance_names_no_host_and_is_plain_json(ready, tmp_path):
    ready()
    content = json.loads((tmp_path / "out" / PROVENANCE).read_text())
    assert set(content["packages"]) >= {"torch", "timm", "ray", "optuna"}
    assert content["images"] == 48
    assert content["native_size"] == 32
