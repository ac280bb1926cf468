import numpy as np
import pytest

from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import image_ids, read_dataset
from hpa_search.errors import UserError


def faults_of(root) -> tuple[str, ...]:
    with pytest.raises(DatasetFaults) as caught:
        read_dataset(root)
    return caught.value.faults


def test_a_sound_dataset(make_dataset):
    root = make_dataset()
    dataset = read_dataset(root)
    assert dataset.ids == ("id0", "id1", "id2", "id3")
    assert [np.flatnonzero(row).tolist() for row in dataset.labels] == [[0], [0, 16], [25], [0, 1, 2, 7]]
    assert dataset.labels.dtype == bool and dataset.groups is None
    assert dataset.test_ids == ("t1", "t0"), "the order of sample_submission.csv"


def test_test_images_without_a_sample_submission_are_sorted(make_dataset):
    root = make_dataset(tests=3)
    (root / "sample_submission.csv").unlink()
    assert read_dataset(root).test_ids == ("t0", "t1", "t2")


def test_no_test_images(make_dataset):
    root = make_dataset(tests=0)
    (root / "sample_submission.csv").write_text("Id,Predicted\nnone,0\n")
    assert read_dataset(root).test_ids == ()


def test_groups_keep_an_image_that_is_not_named_on_its_own(make_dataset):
    root = make_dataset()
    (root / "groups.csv").write_text("Id,Group\nid2,id1\nid0,id1\n")
    groups = read_dataset(root).groups
    assert groups is not None
    assert groups[0] == groups[2] and len(set(groups)) == 3, "a group named as an image does not take that image in"


def test_every_fault_of_every_table_is_in_one_error(make_dataset):
    root = make_dataset(targets=("0", "28", "x", "", "3", "1"))
    with (root / "train.csv").open("a") as file:
        file.write("id4,3\n../id4,3\nnofile,3\nonly,one,more\n")
    (root / "train" / "id0_blue.png").unlink()
    (root / "train" / "id5_red.png").rename(root / "train" / "stray_red.png")
    (root / "test" / "t0_yellow.png").unlink()
    (root / "groups.csv").write_text("Id,Group\nid0,a\nid0,b\nother,c\nid1,\n")
    assert sorted(faults_of(root)) == sorted(
        [
            "train.csv, line 3: label 28 is out of range 0 to 27",
            "train.csv, line 4: 'x' is not a label id; expected numbers from 0 to 27 separated by spaces",
            "train.csv, line 5: no label; every image has at least one",
            "train.csv, line 8: Id 'id4' is already on line 6",
            "train.csv, line 9: Id '../id4' cannot be part of a file name; it may hold no '/', no '\\', no control "
            "character and no leading dot",
            "train.csv, line 11: 3 values where the header has 2",
            "train/id0_blue.png: missing",
            "train/id5_red.png: missing",
            *[f"train/nofile_{colour}.png: missing" for colour in ("red", "green", "blue", "yellow")],
            "train/stray_*.png (red): train.csv has no row for Id 'stray'",
            "groups.csv, line 3: Id 'id0' is already on line 2",
            "groups.csv, line 4: Id 'other' is not in train.csv",
            "groups.csv, line 5: no group; leave the row out for an image that is a group of its own",
            "test/t0_yellow.png: missing",
        ]
    )


@pytest.mark.parametrize("identifier", ["a/b", "a\\b", "..", ".hidden", "", " a", "a\x1b", "x" * 250, "a\u2028b"])
def test_an_id_that_cannot_be_part_of_a_file_name_is_refused(make_dataset, identifier):
    root = make_dataset()
    with (root / "train.csv").open("a") as file:
        file.write(f'"{identifier}",0\n')
    faults = faults_of(root)
    assert len(faults) == 1 and faults[0].startswith("train.csv, line 6: Id '")


def test_missing_parts(make_dataset, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        read_dataset(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert faults_of(empty) == ("train.csv: missing",)
    root = make_dataset(tests=0)
    (root / "train").rename(root / "images")
    assert faults_of(root) == ("train/: missing",)
    (root / "images").rename(root / "train")
    (root / "train.csv").write_text("Id,Target\n")
    assert "train.csv: has no rows; expected one for each image" in faults_of(root)


def test_a_row_without_an_image_and_an_image_without_a_row_in_test(make_dataset):
    root = make_dataset(tests=2)
    (root / "sample_submission.csv").write_text("Id,Predicted\nt0,0\nt7,0\n")
    faults = faults_of(root)
    assert "test/t1_*.png (red, green, blue, yellow): sample_submission.csv has no row for Id 't1'" in faults
    assert "test/t7_red.png: missing" in faults and len(faults) == 5


def test_hidden_and_other_files_are_not_images(make_dataset):
    root = make_dataset(tests=0)
    for name in ("._id0_red.png", "Thumbs.db", "id9_red.txt", "id9_purple.png"):
        (root / "train" / name).write_bytes(b"")
    assert image_ids(root / "train") == read_dataset(root).ids


def test_real_datasets_are_read(real_data):
    dataset = read_dataset(real_data / "hpa-fields-512")
    assert len(dataset.ids) == 7 and dataset.labels.any(axis=1).all() and dataset.test_ids == ()
    assert np.flatnonzero(dataset.labels[dataset.ids.index("000a6c98-bb9b-11e8-b2b9-ac1f6b6435d0")]).tolist() == [0, 1, 2, 7]
