"""External images: read in any size, PNG or JPEG, and never those that show what judges."""

import numpy as np
import pytest
from PIL import Image

from hpa_search.data.external import JoinedImages, lookalikes, read_external
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.errors import UserError
from hpa_search.phantom.dataset import make_phantom
from hpa_search.stains import COLOURS

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


def test_every_fault_is_reported(own, tmp_path):
    folder, _, images = own
    root = write_release(tmp_path / "hpav18", images.gather(np.arange(3)), ["0", "1", "99"])
    (root / "train" / "1000_20_A1_1_green.jpg").unlink()
    with pytest.raises(DatasetFaults) as raised:
        read_external(root, 64, folder / "cache")
    told = str(raised.value)
    assert "99" in told
    assert "1000_20_A1_1_green.png or .jpg: missing" in told


def test_a_torn_image_is_reported(own, tmp_path):
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


def write_grey(root, names=("a", "b"), ending=".png", table="Id,Target\n{}\n", **options):
    """Write external images in grey, as PNG, beside a table in which ``{}`` stands for the rows."""
    (root / "train").mkdir(parents=True)
    (root / "train.csv").write_text(table.format("\n".join(f"{name},0" for name in names)))
    for name in names:
        for colour in COLOURS:
            Image.new("L", (8, 8), 50).save(root / "train" / f"{name}_{colour}{ending}", **options)
    return root


def faults_of(root, cache):
    with pytest.raises(DatasetFaults) as raised:
        read_external(root, 8, cache)
    return raised.value.faults


def test_16_bit_images_are_refused_and_not_made_white(tmp_path):
    root = write_grey(tmp_path / "more")
    for colour in COLOURS:
        plane = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
        Image.fromarray(plane).save(root / "train" / f"b_{colour}.png")
    assert faults_of(root, tmp_path / "cache") == tuple(
        f"train/b_{colour}.png: is of mode 'I;16'; expected 8-bit grey, mode 'L', or 8-bit in the stain's own colour; "
        "convert it to 8-bit grey, all images by one factor"
        for colour in COLOURS
    )


def test_a_damaged_chunk_is_seen_by_its_checksum(tmp_path):
    root = write_grey(tmp_path / "more")
    path = root / "train" / "a_green.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    path.write_bytes(content)
    assert faults_of(root, tmp_path / "cache")[0].startswith("train/a_green.png: is unreadable or cut short")


def test_hidden_tables_and_locks_never_count(tmp_path):
    root = write_grey(tmp_path / "more")
    (root / "train.csv").rename(root / "hpa.csv")
    for name in ("._hpa.csv", ".~lock.hpa.csv#", "~$hpa.csv", "._train.csv", ".DS_Store"):
        (root / name).write_bytes(b"\x00\x05\x16\x07")
    (root / "train" / "._a_red.png").write_bytes(b"\x00\x05\x16\x07")
    assert read_external(root, 8, tmp_path / "cache").images.ids == ("a", "b")
    (root / "more.csv").write_text("Id,Target\n")
    with pytest.raises(UserError, match=r"2 tables \(\*.csv: hpa.csv, more.csv\)"):
        read_external(root, 8, tmp_path / "cache")


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffId,Target\r\na,0\r\nb,0\r\n",
        "Id;Target;Note\r\na;0;x,y\r\nb;0;\r\n",
        " Id , Target \na,0\nb,0\n",
        "Id\tTarget\na\t0\nb\t0\n",
    ],
)
def test_tables_that_an_office_program_wrote_are_read(tmp_path, table):
    root = write_grey(tmp_path / "more", table=table)
    assert read_external(root, 8, tmp_path / "cache").images.ids == ("a", "b")


@pytest.mark.parametrize("identifier", ["..", "a/b", "", " a", "a\x1b", "a"])
def test_ids_are_checked_as_those_of_a_dataset_are(tmp_path, identifier):
    root = write_grey(tmp_path / "more", table=f'Id,Target\n{{}}\n"{identifier}",0\n')
    (fault,) = faults_of(root, tmp_path / "cache")
    assert fault.startswith("train.csv, line 4: Id '")


def test_endings_in_upper_case_are_refused_with_the_right_name(tmp_path):
    root = write_grey(tmp_path / "more", ("a",), ending=".JPG", format="JPEG")
    assert faults_of(root, tmp_path / "cache") == tuple(
        f"train/a_{colour}.JPG: is not in lower case; rename it to a_{colour}.jpg" for colour in COLOURS
    )
