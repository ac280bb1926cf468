import numpy as np
import pytest
from PIL import Image

from hpa_search.data.sheet import COLUMNS, GAP, TILE, composite, examples, label_counts, write_sheet
from hpa_search.labels import LABELS, NUM_LABELS


def flat(red, green, blue, yellow, px=TILE) -> np.ndarray:
    return np.broadcast_to(np.array([red, green, blue, yellow], dtype=np.uint8)[:, None, None], (4, px, px))


def test_yellow_is_added_to_red_and_green_and_does_not_wrap():
    images = np.stack([flat(10, 20, 30, 40, 2), flat(250, 0, 255, 200, 2)])
    assert composite(images)[:, 0, 0].tolist() == [[50, 60, 30], [255, 200, 255]]


def test_a_sheet_shows_every_image_in_its_place_above_its_labels(tmp_path):
    path = tmp_path / "sheet.png"
    images = np.stack([flat(index * 30, 255 - index * 30, 9, 0) for index in range(8)])
    write_sheet(images, ["0"] * 7 + ["0 4 6 18 27"], path)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG" and sheet.width == GAP + COLUMNS * (TILE + GAP)
        pixels = np.asarray(sheet).astype(int)
    step = (pixels.shape[0] - GAP) // 2
    for index in range(8):
        top, left = GAP + index // COLUMNS * step, GAP + index % COLUMNS * (TILE + GAP)
        assert (pixels[top : top + TILE, left : left + TILE] == [index * 30, 255 - index * 30, 9]).all()
        below = pixels[top + TILE : top + step - GAP, left : left + TILE]
        assert below.min() < 60, "a caption in black"
    assert (pixels[-step:, GAP + 2 * (TILE + GAP) :] == 255).all(), "nothing after the last image"


def test_images_of_any_size_fill_their_tile(tmp_path):
    for px in (16, 500):
        write_sheet(np.stack([flat(200, 100, 50, 0, px)]), ["3"], tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.getpixel((GAP + TILE - 1, GAP + TILE - 1)) == (200, 100, 50)


def test_images_and_targets_must_match(tmp_path):
    with pytest.raises(ValueError, match="1 images and 2 targets"):
        write_sheet(np.stack([flat(0, 0, 0, 0)]), ["0", "1"], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_counts_of_labels():
    labels = np.zeros((4, NUM_LABELS), dtype=bool)
    labels[:3, 2] = True
    labels[0, 27] = True
    table = label_counts(labels)
    assert table.columns.tolist() == ["label", "name", "count", "percent"]
    assert table["name"].tolist() == list(LABELS) and table["label"].tolist() == list(range(28))
    assert table.loc[2, ["count", "percent"]].tolist() == [3, 75.0]
    assert table["count"].sum() == 4 and table.loc[27, "percent"] == 25.0


def test_examples_show_every_class_the_rarest_first():
    labels = np.zeros((5, NUM_LABELS), dtype=bool)
    labels[:, 0] = True
    labels[3, 5] = True
    labels[[3, 4], 7] = True
    assert examples(labels).tolist() == [0, 3, 4], "row 3 for class 5, then row 4 for class 7, then row 0 for class 0"
