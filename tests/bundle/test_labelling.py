import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from rich.console import Console

from hpa_search.bundle.export import write_bundle
from hpa_search.bundle.labelling import predict_folder
from hpa_search.bundle.manifest import MANIFEST
from hpa_search.bundle.parts import Parts
from hpa_search.bundle.predict import OpenBundle
from hpa_search.errors import UserError
from hpa_search.labels import parse_target
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.thresholds import DecisionRule


@pytest.fixture
def predict(export, tmp_path):
    """Label a folder; return the rows of the submission and what was said."""
    bundle, _ = export()

    def run(images, out=tmp_path / "results" / "submission.csv", **options):
        said = io.StringIO()
        predict_folder(bundle, images, out, tmp_path / "cache", console=Console(file=said, soft_wrap=True), **options)
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
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_a_name_that_no_table_can_hold_is_refused_before_anything_is_decoded(predict, write_images, computed, tmp_path):
    write_images(tmp_path / "flat", ["good", os.fsdecode(b"Zell\xe4")])
    with pytest.raises(UserError, match=r"Zell\\xe4_\*\.png"):
        predict(tmp_path / "flat")
    assert not computed and not (tmp_path / "cache").exists()


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
    write_bundle(
        bundle,
        "few",
        [(candidates[0], 1.0, Platt(np.ones(28), np.zeros(28)))],
        nothing,
        mean=(0.1,) * 4,
        std=(0.2,) * 4,
        provenance={},
    )
    write_images(tmp_path / "images", ["a", "b"])
    console = Console(record=True, width=200)
    predict_folder(bundle, tmp_path / "images", tmp_path / "out.csv", tmp_path / "cache", console=console)
    assert (tmp_path / "out.csv").read_text() == "Id,Predicted\na,\nb,\n"
    assert "2 have none of the labels that the bundle was trained for" in console.export_text()


KILLED = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from hpa_search.bundle import labelling, parts

bundle, images, out, cache, after = sys.argv[1:]
labelling.CHUNK = 2
write, written = parts.Parts.write, []

def kill_after(self, chunk, probabilities):
    write(self, chunk, probabilities)
    written.append(chunk)
    if len(written) == int(after):
        os.kill(os.getpid(), signal.SIGKILL)

parts.Parts.write = kill_after
labelling.predict_folder(Path(bundle), Path(images), Path(out), Path(cache), console=Console())
"""


@pytest.fixture
def killed(predict, write_images, tmp_path, monkeypatch):
    """A prediction of seven images in chunks of two, killed when it had kept two of them; and how many it kept since."""
    monkeypatch.setattr("hpa_search.bundle.labelling.CHUNK", 2)
    write_images(tmp_path / "flat", "abcdefg")
    script, out = tmp_path / "kill.py", tmp_path / "results" / "submission.csv"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "bundle", tmp_path / "flat", out, tmp_path / "cache", "2"], capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert not out.exists()
    assert len(list((tmp_path / "results" / ".submission.csv.parts").iterdir())) == 2
    return out


@pytest.fixture
def stopped(predict, write_images, tmp_path, monkeypatch):
    """The same, stopped by an exception."""
    monkeypatch.setattr("hpa_search.bundle.labelling.CHUNK", 2)
    write_images(tmp_path / "flat", "abcdefg")
    write = Parts.write

    def stop_at_the_third(self, chunk, probabilities):
        if chunk == 2:
            raise KeyboardInterrupt
        write(self, chunk, probabilities)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Parts, "write", stop_at_the_third)
        predict(tmp_path / "flat")
    return tmp_path / "results" / "submission.csv"


@pytest.fixture
def computed(monkeypatch):
    """The images that were predicted, chunk by chunk."""
    seen = []
    original = OpenBundle.probabilities

    def spy(self, images, rows, progress=None):
        seen.append("".join(images.ids))
        return original(self, images, rows, progress)

    monkeypatch.setattr(OpenBundle, "probabilities", spy)
    return seen


def test_after_a_kill_it_goes_on_and_gives_the_same_bytes(killed, predict, computed, tmp_path):
    _, said = predict(tmp_path / "flat", probabilities=tmp_path / "p.npz")
    assert computed == ["ef", "g"]
    assert "4 of 7 images were predicted before" in said
    resumed = killed.read_bytes(), (tmp_path / "p.npz").read_bytes()
    assert [path.name for path in killed.parent.iterdir()] == ["submission.csv"]
    _, said = predict(tmp_path / "flat", probabilities=tmp_path / "p.npz")
    assert computed[2:] == ["ab", "cd", "ef", "g"] and "before" not in said
    assert (killed.read_bytes(), (tmp_path / "p.npz").read_bytes()) == resumed


def test_a_changed_image_or_bundle_and_a_damaged_part_are_computed_afresh(stopped, predict, computed, tmp_path):
    parts = sorted((stopped.parent / ".submission.csv.parts").iterdir())
    parts[1].write_bytes(parts[1].read_bytes()[:-8])
    os.utime(tmp_path / "flat" / "a_red.png", (1, 1))
    _, said = predict(tmp_path / "flat")
    assert computed == ["ab", "cd", "ef", "g"] and "before" not in said


def test_another_bundle_takes_nothing_over(stopped, predict, computed, tmp_path):
    path = tmp_path / "bundle" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "other"}))
    predict(tmp_path / "flat")
    assert computed == ["ab", "cd", "ef", "g"]


def test_chunks_change_nothing(predict, write_images, tmp_path, monkeypatch):
    write_images(tmp_path / "flat", "abcdefg")
    found = []
    for chunk in (256, 3):
        monkeypatch.setattr("hpa_search.bundle.labelling.CHUNK", chunk)
        predict(tmp_path / "flat", probabilities=tmp_path / "p.npz")
        found.append(np.load(tmp_path / "p.npz")["probabilities"])
    np.testing.assert_allclose(*found, atol=5e-3 if torch.cuda.is_available() else 1e-6)


def test_all_damaged_images_of_all_chunks_are_listed_before_any_is_predicted(
    predict, write_images, tmp_path, computed, monkeypatch
):
    monkeypatch.setattr("hpa_search.bundle.labelling.CHUNK", 2)
    write_images(tmp_path / "flat", "abcdef")
    for name in ("b_red", "f_blue"):
        (tmp_path / "flat" / f"{name}.png").write_bytes(b"no png")
    with pytest.raises(UserError, match=r"2 faults(.|\n)*b_red\.png(.|\n)*f_blue\.png"):
        predict(tmp_path / "flat")
    assert not computed


def test_images_of_several_sizes_are_refused(predict, write_images, tmp_path, monkeypatch):
    monkeypatch.setattr("hpa_search.bundle.labelling.CHUNK", 2)
    write_images(tmp_path / "flat", "ab", size=48)
    write_images(tmp_path / "flat", "cd", size=64)
    with pytest.raises(UserError, match="'a' has 48 pixels, 'c' has 64"):
        predict(tmp_path / "flat")


def test_a_list_says_which_and_in_what_order(predict, write_images, tmp_path):
    write_images(tmp_path / "flat", "abcd")
    (tmp_path / "list.txt").write_text("d\nb\n")
    rows, said = predict(tmp_path / "flat", listed=tmp_path / "list.txt", probabilities=tmp_path / "p.csv")
    assert [identifier for identifier, _ in rows] == ["d", "b"]
    assert "2 images labelled" in said and "p.csv" in said
    assert [line.split(",")[0] for line in (tmp_path / "p.csv").read_text().splitlines()] == ["Id", "d", "b"]
    every = dict(predict(tmp_path / "flat")[0])
    assert dict(rows) == {identifier: every[identifier] for identifier in "db"}


def test_progress_counts_images(export, write_images, tmp_path, monkeypatch):
    told = []

    @contextmanager
    def watched(console, what):
        yield lambda done, of: told.append((what, done, of))

    monkeypatch.setattr("hpa_search.bundle.labelling.progress", watched)
    monkeypatch.setattr("hpa_search.bundle.labelling.CHUNK", 2)
    write_images(tmp_path / "flat", "abc")
    console = Console(file=io.StringIO())
    predict_folder(export()[0], tmp_path / "flat", tmp_path / "s.csv", tmp_path / "cache", console=console)
    assert told == [
        *(("Reading images", done, 3) for done in (1, 2, 3)),
        *(("Predicting", done, 3) for done in (1, 2, 2, 3)),
    ]


@pytest.mark.parametrize("name", ["p.txt", "p", "s.csv"])
def test_a_name_for_probabilities_that_will_not_do_is_refused_first(predict, write_images, tmp_path, name):
    write_images(tmp_path / "flat", "a")
    with pytest.raises(UserError, match=r"\.npz or \.csv|the same file"):
        predict(tmp_path / "flat", tmp_path / "s.csv", probabilities=tmp_path / name)
    assert not (tmp_path / "cache").exists()


def test_a_link_given_as_out_stays_and_its_file_is_written(predict, write_images, tmp_path):
    write_images(tmp_path / "flat", "ab")
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "sub.csv").write_text("old")
    (tmp_path / "sub.csv").symlink_to("big/sub.csv")
    rows, _ = predict(tmp_path / "flat", tmp_path / "sub.csv", probabilities=tmp_path / "p.npz")
    assert (tmp_path / "sub.csv").is_symlink() and len(rows) == 2
    assert (tmp_path / "big" / "sub.csv").read_text().startswith("Id,Predicted\na,")
    assert [path.name for path in (tmp_path / "big").iterdir()] == ["sub.csv"]


def test_a_pipe_gets_the_submission(export, write_images, tmp_path):
    write_images(tmp_path / "flat", "ab")
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    bundle, _ = export()
    console = Console(file=io.StringIO())
    predict_folder(bundle, tmp_path / "flat", tmp_path / "pipe", tmp_path / "cache", console=console)
    reader.join()
    assert read[0].startswith("Id,Predicted\na,") and (tmp_path / "pipe").is_fifo()
    assert not list(tmp_path.glob(".*")) and not list((tmp_path / "cache").rglob("*.npy.*"))


def test_standard_output_gets_the_submission_and_nothing_else(export, write_images, tmp_path):
    write_images(tmp_path / "flat", "ab")
    bundle, _ = export()
    command = [sys.executable, "-m", "hpa_search.cli", "predict", bundle, tmp_path / "flat", "--cache", tmp_path / "cache"]
    ended = subprocess.run([*command, "--out", "/dev/stdout"], capture_output=True, text=True, check=True)
    assert [line.partition(",")[0] for line in ended.stdout.splitlines()] == ["Id", "a", "b"]
    assert "2 images labelled in /dev/stdout" in ended.stderr


def test_a_link_whose_folder_is_not_there_is_refused_before_the_images_are_read(predict, write_images, tmp_path):
    write_images(tmp_path / "flat", "a")
    (tmp_path / "s.csv").symlink_to(tmp_path / "disk" / "s.csv")
    with pytest.raises(
        UserError, match=r"no file can be written here: what the link .* names, .*disk/s.csv, is not there.*--out"
    ):
        predict(tmp_path / "flat", tmp_path / "s.csv")
    assert not (tmp_path / "cache").exists() and not (tmp_path / "disk").exists()
