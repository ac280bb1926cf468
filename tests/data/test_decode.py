import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hpa_search.data.decode import common_size, decode_channel, decode_image, decode_stain


def save(path, size=(8, 8), mode="L"):
    Image.new(mode, size).save(path, format="PNG")
    return path


def png(depth, colour, values, size=8):
    """Return a PNG file of zeros with ``depth`` bits a value and ``values`` a pixel, of the colour type ``colour``."""
    rows = bytes(size * (1 + size * values * depth // 8))

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", size, size, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def animated(path):
    Image.new("L", (8, 8)).save(path, save_all=True, append_images=[Image.new("L", (8, 8), 9)])


UNFIT = {
    "16-bit grey": (lambda path: save(path, mode="I;16"), "is of mode 'I;16'; expected 8-bit grey, mode 'L'"),
    "16-bit colour": (lambda path: path.write_bytes(png(16, 2, 3)), "is of mode 'RGB'"),
    "16-bit grey with alpha": (lambda path: path.write_bytes(png(16, 4, 2)), "is of mode 'RGBA'"),
    "one bit": (lambda path: save(path, mode="1"), "is of mode '1'; expected 8-bit grey"),
    "animated": (animated, "holds 2 pictures; expected one"),
    "not square": (lambda path: save(path, (8, 6)), "is 8 x 6 pixels"),
    "32-bit TIFF": (lambda path: Image.new("I", (8, 8)).save(path, format="TIFF"), "it is a TIFF image; convert it to 8-bit grey PNG"),
    "float TIFF": (lambda path: Image.new("F", (8, 8)).save(path, format="TIFF"), "it is a TIFF image"),
    "empty": (lambda path: path.touch(), "it is empty; download or copy it again"),
    "a pointer": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "run `git lfs pull`"),
    "a page": (lambda path: path.write_bytes(b"<html><title>Sign in</title>"), "a web page .'Sign in'."),
    "noise": (lambda path: path.write_bytes(bytes(range(128, 256))), "or its header is damaged"),
    "a folder": (lambda path: path.mkdir(), "is unreadable: it is a folder"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), r"missing \(a broken link\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("decode", [lambda file: decode_channel(file, None), decode_stain], ids=["dataset", "external"])
def test_a_dataset_and_external_images_are_refused_for_the_same_faults(tmp_path, decode, kind):
    write, message = UNFIT[kind]
    write(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("write", [UNFIT["16-bit grey"][0], UNFIT["16-bit colour"][0], UNFIT["16-bit grey with alpha"][0]])
def test_more_than_8_bits_are_refused_with_what_to_do(tmp_path, write):
    write(tmp_path / "a.png")
    for decode in (lambda file: decode_channel(file, None), decode_stain):
        with pytest.raises(ValueError, match="16.*convert it to 8-bit grey, all images by one factor"):
            decode(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_stain_in_its_own_colour_is_its_brightest_channel(tmp_path, mode, channel):
    plane = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    painted = np.zeros((8, 8, 3), dtype=np.uint8)
    painted[..., channel] = plane
    image = Image.fromarray(plane) if mode[0] == "L" else Image.fromarray(painted)
    (image.quantize(256) if mode == "P" else image.convert(mode)).save(tmp_path / "a.png")
    assert np.array_equal(decode_stain(tmp_path / "a.png"), plane)


def test_a_stain_is_read_by_what_it_is_and_not_by_its_ending(tmp_path):
    pixels = np.full((8, 8), 99, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", format="JPEG")
    Image.fromarray(pixels).save(tmp_path / "a.jpg", format="PNG")
    for name in ("a.png", "a.jpg"):
        assert np.array_equal(decode_stain(tmp_path / name), pixels)
    with pytest.raises(ValueError, match="is not a PNG file: it is a JPEG image; convert it to 8-bit grey PNG"):
        decode_channel(tmp_path / "a.png", 8)
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="is of mode 'CMYK'; expected 8-bit grey"):
        decode_stain(tmp_path / "a.jpg")


def test_every_changed_byte_of_a_stain_is_seen_in_png_and_every_cut_in_jpeg(tmp_path):
    path, pixels = tmp_path / "a", np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    whole = path.read_bytes()
    for place in range(0, whole.index(b"IEND") - 4, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="PNG|unreadable"):
            decode_stain(path)
    Image.fromarray(pixels).save(path, format="JPEG")
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="JPEG|unreadable"):
            decode_stain(path)


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


def test_a_file_that_is_not_a_png_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "jpeg.png", format="JPEG")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("jpeg.png", "empty.png"):
        with pytest.raises(ValueError, match="is not a PNG file"):
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
