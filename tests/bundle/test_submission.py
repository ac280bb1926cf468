import csv
import io
import json
import pickle

import numpy as np
import pytest
import torch
from rich.console import Console

from hpa_search.bundle.export import write_bundle
from hpa_search.bundle.manifest import MANIFEST
from hpa_search.bundle.submission import predict_folder
from hpa_search.errors import UserError
from hpa_search.labels import parse_target
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.thresholds import DecisionRule


@pytest.fixture
def predict(export, tmp_path):
    """Label a folder; return the rows of the submission and what was said."""
    bundle, _ = export()

    def run(images, out=tmp_path / "results" / "submission.csv"):
        said = io.StringIO()
        predict_folder(bundle, images, out, tmp_path / "cache", console=Console(file=said, soft_wrap=True))
        with out.open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["Id", "Predicted"]
        assert all(parse_target(target) for _, target in rows)
        return rows, said.getvalue()

    return run


def test_a_flat_folder_is_labelled_by_name(predict, write_images, tmp_path):
    write_images(tmp_path / "flat", ["c", "a", "b"])
    (tmp_path / "flat" / "notes.txt").touch()
    rows, said = predict(tmp_path / "flat")
    assert [identifier for identifier, _ in rows] == ["a", "b", "c"]
    assert "3 images labelled" in said


def test_the_order_of_the_sample_submission_is_kept(predict, write_images, tmp_path):
    write_images(tmp_path / "data" / "test", "xyz")
    (tmp_path / "data" / "sample_submission.csv").write_text("Id,Predicted\ny,0\nx,0\nz,0\n")
    rows, _ = predict(tmp_path / "data")
    assert [identifier for identifier, _ in rows] == ["y", "x", "z"]
    assert sorted(map(tuple, rows)) == sorted(map(tuple, predict(tmp_path / "data" / "test")[0]))


def test_a_dataset_without_test_images_has_its_training_images_labelled(predict, write_images, tmp_path):
    write_images(tmp_path / "data" / "train", "pq")
    (tmp_path / "data" / "train.csv").write_text("Id,Target\nq,0\np,1\n")
    assert [identifier for identifier, _ in predict(tmp_path / "data")[0]] == ["q", "p"]
    (tmp_path / "data" / "train.csv").unlink()
    assert [identifier for identifier, _ in predict(tmp_path / "data")[0]] == ["p", "q"]


def test_faults_of_the_training_table_do_not_keep_the_test_images_from_being_labelled(predict, write_images, tmp_path):
    write_images(tmp_path / "data" / "test", "x")
    (tmp_path / "data" / "train.csv").write_text("nonsense")
    assert len(predict(tmp_path / "data")[0]) == 1


def test_images_of_another_size_are_resized_and_that_is_said_once(predict, write_images, tmp_path):
    write_images(tmp_path / "large", "ab", size=80)
    _, said = predict(tmp_path / "large")
    assert said.count("80 px") == 1
    assert "32, 48 px: resized" in said


def test_no_row_is_empty(export, write_images, tmp_path):
    bundle, _ = export()
    content = json.loads((bundle / MANIFEST).read_text())
    content["rule"]["thresholds"] = [1.0] * 28
    (bundle / MANIFEST).write_text(json.dumps(content))
    write_images(tmp_path / "flat", "abc")
    said = io.StringIO()
    predict_folder(bundle, tmp_path / "flat", tmp_path / "s.csv", tmp_path / "cache", console=Console(file=said, soft_wrap=True))
    assert all(len(line.split(",")[1].split()) == 1 for line in (tmp_path / "s.csv").read_text().splitlines()[1:])
    assert "3 had no label above its threshold" in said.getvalue()


def test_nothing_is_unpickled_and_a_planted_pickle_is_not_read(predict, write_images, tmp_path, monkeypatch):
    class Mine:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    def forbidden(*arguments, **options):
        raise AssertionError("something was unpickled")

    write_images(tmp_path / "flat", "ab")
    for name in ("model.pt", "model.pkl", "bundle.pkl", "pytorch_model.bin"):
        (tmp_path / "bundle" / name).write_bytes(pickle.dumps(Mine()))
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, forbidden)
    assert len(predict(tmp_path / "flat")[0]) == 2
    assert not (tmp_path / "owned").exists()


def test_a_damaged_image_is_refused_by_name_and_an_old_submission_stays(predict, write_images, tmp_path):
    write_images(tmp_path / "flat", "ab")
    (tmp_path / "flat" / "b_blue.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "s.csv").write_text("mine")
    with pytest.raises(UserError, match=r"b_blue\.png"):
        predict(tmp_path / "flat", tmp_path / "s.csv")
    (tmp_path / "flat" / "b_blue.png").unlink()
    with pytest.raises(UserError, match=r"b_blue\.png: missing"):
        predict(tmp_path / "flat", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "mine"


def test_folders_without_images_are_refused(predict, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "bundle" / MANIFEST, tmp_path / "missing"):
        with pytest.raises(UserError, match="no images|not a folder"):
            predict(path)


def test_a_place_that_cannot_be_written_is_refused_before_the_images_are_read(predict, write_images, tmp_path):
    write_images(tmp_path / "flat", "a")
    for out in (tmp_path / "flat", tmp_path / "bundle" / MANIFEST / "s.csv"):
        with pytest.raises(UserError, match="no file can be written here"):
            predict(tmp_path / "flat", out)
    assert not (tmp_path / "cache").exists()


def test_a_bundle_for_some_labels_leaves_rows_empty_and_says_so(export, candidates, write_images, tmp_path):
    """Its rule fills up no row: a specialist does not know what else an image shows."""
    nothing = DecisionRule(Platt(np.ones(28), np.full(28, -30.0)), np.full(28, 0.5), fill=False)
    bundle = tmp_path / "specialist"
    write_bundle(bundle, "few", [(candidates[0], 1.0)], nothing, mean=(0.1,) * 4, std=(0.2,) * 4, provenance={})
    write_images(tmp_path / "images", ["a", "b"])
    console = Console(record=True, width=200)
    predict_folder(bundle, tmp_path / "images", tmp_path / "out.csv", tmp_path / "cache", console=console)
    assert (tmp_path / "out.csv").read_text() == "Id,Predicted\na,\nb,\n"
    assert "2 have none of the labels that the bundle was trained for" in console.export_text()
