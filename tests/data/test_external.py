"""External images: read in any size, PNG or JPEG, and never those that show what judges."""

import numpy as np
import pytest
from PIL import Image

from hpa_search.data.external import JoinedImages, lookalikes, read_external
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import COLOURS, read_dataset
from hpa_search.data.packed import pack
from hpa_search.data.phantom import make_phantom
from hpa_search.errors import UserError

PAINTED = {"red": (0,), "green": (1,), "blue": (2,), "yellow": (0, 1)}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    make_phantom(folder / "data", images=24, size=64, seed=0, lift=0, test_images=1)
    dataset = read_dataset(folder / "data")
    return folder, dataset, pack(dataset.train_folder, dataset.ids, folder / "cache")


def write_release(folder, images, targets, size=150):
    """Write uint8 (4, s, s) images as HPAv18 does: JPEG, each stain in its own colour, in another size."""
    (folder / "train").mkdir(parents=True)
    lines = ["Id,Target"]
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        name = f"{1000 + number}_20_A{number + 1}_1"
        lines.append(f"{name},{target}")
        for colour, plane in zip(COLOURS, image, strict=True):
            painted = np.zeros((*plane.shape, 3), dtype=np.uint8)
            for channel in PAINTED[colour]:
                painted[..., channel] = plane
            picture = Image.fromarray(painted).resize((size, size), Image.Resampling.BICUBIC)
            picture.save(folder / "train" / f"{name}_{colour}.jpg", quality=90)
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_release_is_read_in_its_colours_and_brought_to_size(own, tmp_path):
    folder, _, images = own
    root = write_release(tmp_path / "hpav18", images.gather(np.arange(3)), ["0 25", "3", "27"])
    external = read_external(root, 64, folder / "cache")
    assert external.images.ids == ("1000_20_A1_1", "1001_20_A2_1", "1002_20_A3_1")
    assert [np.flatnonzero(row).tolist() for row in external.labels] == [[0, 25], [3], [27]]
    difference = external.images.gather(np.arange(3)).astype(int) - images.gather(np.arange(3))
    assert external.images.size == 64
    assert np.abs(difference).mean() < 6


def test_images_that_show_what_judges_are_recognised(own, tmp_path):
    folder, _, images = own
    root = write_release(tmp_path / "hpav18", images.gather(np.arange(10)), ["0"] * 10)
    external = read_external(root, 64, folder / "cache")
    judged = np.array([2, 5, 20])
    assert np.flatnonzero(lookalikes(external.images, images, judged)).tolist() == [2, 5]
    assert not lookalikes(external.images, images, np.array([], dtype=int)).any()


def test_joined_images_are_the_rows_of_both(own, tmp_path):
    folder, _, images = own
    root = write_release(tmp_path / "hpav18", images.gather(np.arange(4)), ["0"] * 4)
    external = read_external(root, 64, folder / "cache").images
    joined = JoinedImages(images, external)
    rows = np.array([25, 0, 23, 24])
    expected = np.concatenate([external.gather(np.array([1])), images.gather(np.array([0, 23])), external.gather(np.array([0]))])
    assert np.array_equal(joined.gather(rows), expected)
    small = joined.at_size(32).gather(rows)
    assert np.array_equal(small[1:3], images.at_size(32).gather(np.array([0, 23])))


def test_a_table_of_another_name_and_files_beside_it_will_do(own, tmp_path):
    folder, _, images = own
    root = write_release(tmp_path / "flat", images.gather(np.arange(2)), ["1", "2"])
    (root / "train.csv").rename(root / "HPAv18RBGY_wodpl.csv")
    for file in (root / "train").iterdir():
        file.rename(root / file.name)
    (root / "train").rmdir()
    assert len(read_external(root, 64, folder / "cache").images) == 2


def test_every_fault_is_told(own, tmp_path):
    folder, _, images = own
    root = write_release(tmp_path / "hpav18", images.gather(np.arange(3)), ["0", "1", "99"])
    (root / "train" / "1000_20_A1_1_green.jpg").unlink()
    with pytest.raises(DatasetFaults) as raised:
        read_external(root, 64, folder / "cache")
    told = str(raised.value)
    assert "99" in told
    assert "1000_20_A1_1_green.png or .jpg: missing" in told


def test_a_torn_image_is_told(own, tmp_path):
    folder, _, images = own
    root = write_release(tmp_path / "hpav18", images.gather(np.arange(2)), ["0", "1"])
    torn = root / "train" / "1001_20_A2_1_blue.jpg"
    torn.write_bytes(torn.read_bytes()[:200])
    with pytest.raises(DatasetFaults, match="1001_20_A2_1_blue.jpg: is unreadable or cut short"):
        read_external(root, 64, folder / "cache")


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="0 tables"):
        read_external(tmp_path, 64, tmp_path / "cache")
    with pytest.raises(UserError, match="not a folder"):
        read_external(tmp_path / "none", 64, tmp_path / "cache")
