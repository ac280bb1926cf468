import numpy as np
import pytest
from PIL import Image

from hpa_search.data.check import check_dataset
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.errors import UserError


def check(root, tmp_path):
    return check_dataset(root, tmp_path / "sheet.png", tmp_path / "cache")


def test_a_sound_dataset_is_described_and_left_packed(make_dataset, tmp_path):
    root = make_dataset(size=16)
    report = check(root, tmp_path)
    assert (report.faults, report.images, report.test_images, report.size, report.test_size) == ((), 4, 2, 16, 16)
    assert report.counts is not None and report.counts.loc[0, "count"] == 3
    with Image.open(report.sheet) as sheet:
        assert sheet.width > 192
    dataset = read_dataset(root)
    pack(dataset.train_folder, dataset.ids, tmp_path / "cache", lambda done, total: pytest.fail("decoded again"))


def test_faults_of_train_and_test_images_are_listed_together(make_dataset, tmp_path):
    root = make_dataset()
    Image.new("RGB", (8, 8)).save(root / "train" / "id0_red.png")
    (root / "test" / "t0_blue.png").write_bytes(b"")
    report = check(root, tmp_path)
    assert [fault.split(":")[0] for fault in report.faults] == ["train/id0_red.png", "test/t0_blue.png"]
    assert report.counts is None and not (tmp_path / "sheet.png").exists()


def test_faults_of_tables_do_not_hide_those_of_images(make_dataset, tmp_path):
    root = make_dataset(targets=("0", "99"))
    (root / "train" / "id0_green.png").unlink()
    Image.fromarray(np.zeros((4, 8), dtype=np.uint8)).save(root / "train" / "id1_red.png")
    report = check(root, tmp_path)
    assert report.faults == (
        "train.csv, line 3: label 99 is out of range 0 to 27",
        "train/id0_green.png: missing",
        "train/id1_red.png: is 8 x 4 pixels; the networks take square images",
    )


def test_no_dataset_at_all(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        check(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    assert check(tmp_path / "empty", tmp_path).faults == ("train.csv: missing",)


def test_real_crops(real_data, tmp_path):
    report = check(real_data / "hpa-crops-256", tmp_path)
    assert (report.faults, report.images, report.size, report.test_size) == ((), 73, 256, None)
