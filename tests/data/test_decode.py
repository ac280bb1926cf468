import numpy as np
import pytest
from PIL import Image

from hpa_search.data.decode import common_size, decode_channel, decode_image


def save(path, size=(8, 8), mode="L"):
    Image.new(mode, size).save(path, format="PNG")
    return path


def test_pixels_are_those_that_were_written(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode_channel(tmp_path / "a.png", 9), pixels)
    assert np.array_equal(decode_channel(tmp_path / "a.png", None), pixels)


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [
        ((8, 8), "RGB", "is of mode 'RGB'; expected 8-bit grey, mode 'L'"),
        ((8, 8), "I;16", "is of mode 'I;16'"),
        ((8, 8), "P", "is of mode 'P'"),
        ((8, 8), "1", "is of mode '1'"),
        ((8, 6), "L", "is 8 x 6 pixels; the networks take square images"),
        ((4, 4), "L", "is 4 x 4 pixels; most of the images are 8 x 8"),
    ],
)
def test_another_kind_of_image_is_refused_and_named_for_what_it_is(tmp_path, size, mode, message):
    with pytest.raises(ValueError, match=message):
        decode_channel(save(tmp_path / "a.png", size, mode), 8)


def test_what_is_no_png_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "jpeg.png", format="JPEG")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("jpeg.png", "empty.png"):
        with pytest.raises(ValueError, match="is no PNG file"):
            decode_channel(tmp_path / name, 8)
    with pytest.raises(ValueError, match="missing"):
        decode_channel(tmp_path / "none.png", 8)
    with pytest.raises(ValueError, match="unreadable"):
        decode_channel(tmp_path, 8)


def test_every_changed_byte_and_every_cut_is_seen(tmp_path):
    """Decoding alone takes some changes of compressed data for other pixels; the checksums of the chunks do not."""
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    data_end = whole.index(b"IEND") - 4  # the chunk that ends the file holds no data, and a change in it loses none
    for place in range(len(whole)):
        for damaged in (whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :], whole[:place]):
            path.write_bytes(damaged)
            if place < data_end:
                with pytest.raises(ValueError, match="PNG|unreadable"):
                    decode_channel(path, 8)
            else:
                try:
                    assert np.array_equal(decode_channel(path, 8), pixels)
                except ValueError as error:
                    assert "unreadable" in str(error)


def test_an_image_lists_each_channel_at_fault(tmp_path):
    files = [save(tmp_path / f"a_{colour}.png") for colour in ("red", "green", "blue", "yellow")]
    image, faults = decode_image(files, 8)
    assert image is not None and image.shape == (4, 8, 8) and not faults
    files[1].unlink()
    save(files[3], (2, 2))
    image, faults = decode_image(files, 8)
    assert image is None
    assert [fault.split(":")[0] for fault in faults] == [f"{tmp_path.name}/a_green.png", f"{tmp_path.name}/a_yellow.png"]


def test_the_common_size_is_that_of_most_files(tmp_path):
    files = [save(tmp_path / f"{index}.png", (size, size)) for index, size in enumerate((4, 8, 8))]
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert common_size([tmp_path / "broken.png", tmp_path / "missing.png", *files]) == 8
    assert common_size([tmp_path / "broken.png"]) is None
    assert common_size([]) is None
