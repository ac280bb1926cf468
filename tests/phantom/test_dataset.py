"""The phantom as a dataset: its layout, repeatability, and that a failure leaves nothing."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS, parse_target
from hpa_search.phantom.dataset import FEW_IMAGES, make_phantom
from hpa_search.phantom.labels import class_counts, real_label_sets
from hpa_search.stains import COLOURS

pytestmark = pytest.mark.long


def make(folder: Path, **changes) -> Path:
    make_phantom(folder, **{"images": 5, "size": 32, "seed": 1, "test_images": 2, "workers": 1} | changes)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def targets(folder: Path, table: str = "train.csv") -> list[tuple[int, ...]]:
    return pd.read_csv(folder / table)["Target"].map(parse_target).tolist()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / "phantom", images=15, size=48, test_images=None)


def test_the_layout_is_that_of_the_download(phantom):
    assert sorted(path.name for path in phantom.iterdir()) == [
        "sample_submission.csv",
        "test",
        "test_labels.csv",
        "train",
        "train.csv",
    ]
    tables = {name: pd.read_csv(phantom / name) for name in ("train.csv", "test_labels.csv", "sample_submission.csv")}
    assert {name: (list(table), len(table)) for name, table in tables.items()} == {
        "train.csv": (["Id", "Target"], 15),
        "test_labels.csv": (["Id", "Target"], 3),
        "sample_submission.csv": (["Id", "Predicted"], 3),
    }
    assert tables["test_labels.csv"]["Id"].tolist() == tables["sample_submission.csv"]["Id"].tolist()
    assert set(tables["train.csv"]["Id"]).isdisjoint(tables["test_labels.csv"]["Id"])
    for part, table in (("train", "train.csv"), ("test", "test_labels.csv")):
        names = tables[table]["Id"].tolist()
        assert names == sorted(names)
        files = {f"{name}_{colour}.png" for name in names for colour in ("red", "green", "blue", "yellow")}
        assert {path.name for path in (phantom / part).iterdir()} == files


def test_images_are_grey_bytes_of_the_size_asked_for(phantom):
    for path in (phantom / "train").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (48, 48))


def test_the_package_reads_what_it_made(phantom, tmp_path):
    dataset = read_dataset(phantom)
    assert dataset.labels.shape == (15, NUM_LABELS) and len(dataset.test_ids) == 3
    packed = pack(dataset.train_folder, dataset.ids, tmp_path / "cache")
    pixels = packed.gather(np.arange(15))
    assert pixels.shape == (15, 4, 48, 48)
    last = [np.asarray(Image.open(phantom / "train" / f"{dataset.ids[-1]}_{colour}.png")) for colour in COLOURS]
    assert (np.asarray(pixels[-1]) == np.stack(last)).all()
    assert len(pack(dataset.test_folder, dataset.test_ids, tmp_path / "cache")) == 3


def test_every_image_is_its_own(phantom):
    found = digests(phantom)
    pictures = [digest for name, digest in found.items() if name.endswith(".png")]
    assert len(set(pictures)) == len(pictures) == 72


def test_the_same_seed_gives_the_same_bytes_and_another_others(tmp_path):
    first, again, other = (digests(make(tmp_path / name, seed=seed)) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert first == again
    assert set(first.values()).isdisjoint(other.values())


def test_more_images_are_more_of_another_draw_but_tests_do_not_change_training(tmp_path):
    few, more = digests(make(tmp_path / "few")), digests(make(tmp_path / "more", test_images=4))
    assert {k: v for k, v in few.items() if k.startswith("train")} == {k: v for k, v in more.items() if k.startswith("train")}


def test_the_number_of_processes_does_not_matter(tmp_path):
    one, two = (digests(make(tmp_path / str(n), images=FEW_IMAGES, test_images=3, workers=n)) for n in (1, 2))
    assert one == two and len(one) == 4 * (FEW_IMAGES + 3) + 3


def test_labels_are_lifted_in_both_parts(tmp_path):
    counted = make(tmp_path / "counted", images=100, test_images=50, lift=2)
    assert class_counts(targets(counted)).min() >= 2
    assert class_counts(targets(counted, "test_labels.csv")).min() >= 1
    assert set(targets(counted)) <= set(real_label_sets()[0])
    shared = make(tmp_path / "shared", images=100, test_images=50, lift=0.02)
    assert digests(shared) == digests(counted)


def test_without_a_lift_rare_classes_are_rare(tmp_path):
    counts = class_counts(targets(make(tmp_path / "plain", images=100)))
    assert (counts == 0).sum() >= 3
    assert 25 < counts[0] < 60, "41 % of the real images have Nucleoplasm"


def test_progress_counts_every_image(tmp_path):
    calls = []
    make(tmp_path / "phantom", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 7) for done in range(8)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 31}, "31 px images: the size must be from 32 to 2048 px"),
        ({"size": 4096}, "4096 px"),
        ({"size": -1}, "-1 px"),
        ({"images": 0}, "0 training images: ask for 1 to"),
        ({"images": 10**7}, "10000000 training images"),
        ({"test_images": 0}, "0 test images"),
        ({"test_images": -1}, "-1 test images"),
        ({"seed": -1}, "seed -1"),
        ({"lift": -0.5}, "lift -0.5"),
        ({"lift": 6}, "lift 6: give a number of images a class, at most 5"),
        ({"lift": float("nan")}, "lift nan"),
        ({"lift": float("inf")}, "lift inf"),
        ({"lift": 5}, "5 images cannot hold 5 images of each of the 28 classes"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        make(tmp_path / "phantom", **changes)
    assert not (tmp_path / "phantom").exists()


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train.csv").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = digests(tmp_path)
    for name in ("mine", "file"):
        with pytest.raises(UserError, match=f"{name}: already there and not an empty folder"):
            make(tmp_path / name)
    with pytest.raises(UserError, match="cannot make the folder"):
        make(tmp_path / "file" / "below")
    assert digests(tmp_path) == before and (tmp_path / "mine" / "train").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write anywhere")
def test_a_place_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot make the folder"):
        make(tmp_path / "phantom")
    tmp_path.chmod(0o700)


def test_a_volume_of_its_own_will_do(tmp_path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".DS_Store").touch()
    make(tmp_path)
    assert (tmp_path / "train.csv").is_file() and (tmp_path / "lost+found").is_dir() and (tmp_path / ".DS_Store").exists()
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    with pytest.raises(UserError, match="not an empty folder"):
        make(tmp_path / "repository")


def test_an_empty_folder_and_a_deep_one_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "deep" / "er"):
        assert len(read_dataset(make(folder)).ids) == 5


def stop_at(number, stop):
    def progress(done, total):
        if done == number:
            stop()

    return progress


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(("workers", "images"), [(1, 5), (2, FEW_IMAGES)])
def test_an_interrupted_phantom_leaves_nothing_and_can_be_made_again(tmp_path, workers, images):
    arguments = {"images": images, "workers": workers}
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "phantom", progress=stop_at(3, interrupt), **arguments)
    assert list(tmp_path.iterdir()) == []
    assert not multiprocessing.active_children()


def test_an_empty_folder_that_was_there_stays(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, progress=stop_at(2, interrupt))
    assert tmp_path.is_dir() and list(tmp_path.iterdir()) == []
    make(tmp_path)


def test_a_disk_that_refuses_an_image(tmp_path):
    folder = tmp_path / "phantom"
    with pytest.raises(UserError, match=r"phantom/train/.*: cannot write the phantom: the folder .*phantom/train is not there"):
        make(folder, progress=stop_at(2, lambda: shutil.rmtree(folder / "train")))
    assert not folder.exists()


def test_a_disk_that_refuses_a_table(tmp_path):
    folder = tmp_path / "phantom"
    with pytest.raises(UserError, match="cannot write the phantom"):
        make(folder, progress=stop_at(7, (folder / "train.csv").mkdir))
    assert [path.name for path in folder.iterdir()] == ["train.csv"], "only what another put there"


def test_a_killed_process_is_reported(tmp_path):
    def kill():
        multiprocessing.active_children()[0].kill()

    with pytest.raises(UserError, match="a process that drew images was killed"):
        make(tmp_path / "phantom", images=4 * FEW_IMAGES, workers=2, progress=stop_at(1, kill))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_from_the_terminal_is_answered_by_one_process(tmp_path):
    """As a terminal does it: to the whole group of processes."""
    folder = tmp_path / "phantom"
    program = (
        "if __name__ == '__main__':\n"
        "    import sys, pathlib, signal\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\n"
        "    from hpa_search.phantom.dataset import make_phantom\n"
        "    make_phantom(pathlib.Path(sys.argv[1]), images=5000, size=64, seed=0, workers=2)\n"
    )
    (tmp_path / "draw.py").write_text(program)
    command = [sys.executable, str(tmp_path / "draw.py"), str(folder)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not any(folder.glob("train/*.png")) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    finally:
        running.kill()
    assert said.strip().endswith("KeyboardInterrupt") and said.count("KeyboardInterrupt") == 1
    assert not folder.exists()
