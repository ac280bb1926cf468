import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hpa_search.data import phantom
from hpa_search.data.phantom import make_phantom
from hpa_search.errors import UserError
from hpa_search.labels import NUM_LABELS, parse_target, to_vector

COLOURS = ("red", "green", "blue", "yellow")


def _digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _counts(table: Path) -> np.ndarray:
    return np.sum([to_vector(parse_target(target)) for target in pd.read_csv(table)["Target"]], axis=0)


def test_the_layout_is_kaggles(tmp_path):
    root = tmp_path / "made" / "phantom"
    calls = []
    make_phantom(root, images=6, size=40, seed=1, test_images=3, progress=lambda done, total: calls.append((done, total)))
    tables = {"train.csv": "Id,Target", "sample_submission.csv": "Id,Predicted", "test_labels.csv": "Id,Target"}
    assert sorted(path.name for path in root.iterdir()) == sorted([*tables, "train", "test"])
    for name, header in tables.items():
        assert (root / name).read_text().splitlines()[0] == header
    train, test, sample = (pd.read_csv(root / name) for name in ("train.csv", "test_labels.csv", "sample_submission.csv"))
    assert (len(train), len(test), list(sample["Id"])) == (6, 3, list(test["Id"]))
    assert all(parse_target(str(target)) for target in [*train["Target"], *test["Target"], *sample["Predicted"]])
    assert train["Id"].is_monotonic_increasing
    assert not set(train["Id"]) & set(test["Id"])
    for part, table in (("train", train), ("test", test)):
        expected = {f"{name}_{colour}.png" for name in table["Id"] for colour in COLOURS}
        assert {path.name for path in (root / part).iterdir()} == expected
        for name in expected:
            with Image.open(root / part / name) as image:
                assert (image.mode, image.size) == ("L", (40, 40))
    assert calls == [(done, 9) for done in range(10)]


def test_a_fifth_as_many_test_images_unless_asked(tmp_path):
    make_phantom(tmp_path / "p", images=10, size=32, seed=0)
    assert len(pd.read_csv(tmp_path / "p" / "test_labels.csv")) == 2


def test_the_same_seed_gives_the_same_bytes_with_one_process_or_two_and_another_others(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "FEW_IMAGES", 1)
    for name, seed, workers in (("one", 7, 1), ("two", 7, 2), ("other", 8, 1)):
        make_phantom(tmp_path / name, images=10, size=32, seed=seed, test_images=2, workers=workers)
    one, two, other = (_digest(tmp_path / name) for name in ("one", "two", "other"))
    assert len(one) == 51
    assert one == two
    assert not set(one.values()) & set(other.values()) - {one["sample_submission.csv"]}


@pytest.mark.parametrize(("lift", "least"), [(2, 2), (0.02, 3)])
def test_lift_is_a_number_or_a_share_of_the_training_images(tmp_path, monkeypatch, lift, least):
    monkeypatch.setattr(phantom, "_write_image", lambda job: None)
    make_phantom(tmp_path / "p", images=150, size=32, seed=0, lift=lift, test_images=75, workers=1)
    assert _counts(tmp_path / "p" / "train.csv").min() >= least
    assert _counts(tmp_path / "p" / "test_labels.csv").min() >= 1


def test_without_a_lift_the_rare_classes_stay_rare(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "_write_image", lambda job: None)
    make_phantom(tmp_path / "p", images=1000, size=32, seed=0, workers=1)
    counts = _counts(tmp_path / "p" / "train.csv")
    assert counts.shape == (NUM_LABELS,)
    assert counts[27] <= 5
    assert 360 < counts[0] < 470


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": 0}, "0 training images"),
        ({"test_images": 0}, "0 test images"),
        ({"size": 31}, "31 px"),
        ({"size": 5000}, "5000 px"),
        ({"seed": -1}, "seed -1"),
        ({"lift": -1}, "lift -1"),
        ({"lift": float("nan")}, "lift nan"),
        ({"lift": 9}, "cannot hold 9"),
    ],
)
def test_silly_requests_are_refused_and_leave_nothing(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        make_phantom(tmp_path / "p", **{"images": 20, "size": 32, "seed": 0, **change})
    assert not (tmp_path / "p").exists()


def test_a_folder_that_holds_anything_is_refused_and_an_empty_one_is_used(tmp_path):
    make_phantom(tmp_path, images=1, size=32, seed=0)
    before = _digest(tmp_path)
    with pytest.raises(UserError, match="not an empty folder"):
        make_phantom(tmp_path, images=1, size=32, seed=1)
    assert _digest(tmp_path) == before


@pytest.mark.parametrize("was_there", [False, True])
def test_what_was_begun_is_taken_away_after_an_interruption(tmp_path, was_there):
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "p"
    if was_there:
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        make_phantom(folder, images=4, size=32, seed=0, progress=interrupt)
    assert folder.exists() == was_there
    assert not list(tmp_path.glob("p/*"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="a superuser may write anywhere")
def test_a_place_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot make the folder"):
        make_phantom(tmp_path / "p", images=1, size=32, seed=0)
    tmp_path.chmod(0o700)
