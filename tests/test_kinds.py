import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from hpa_search.kinds import START, foreign, kind_of, kind_of_bytes

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665b3\nsize 46830571\n"
PAGE = b"<!DOCTYPE html><html><title>Drive - Virus scan warning</title></html>\n"


def archived(kind):
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", "a")
    else:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


def image(form):
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, format=form)
    return file.getvalue()


def saved_array():
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (b"", "empty", "again"),
        (bytes(5000), "zero bytes", "again"),
        (POINTER, "a Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s46830571--4665b3.pth\n", "a git-annex pointer", "git annex get"),
        (PAGE, "a web page ('Drive - Virus scan warning')", "download the file itself"),
        (b"\xef\xbb\xbf\r\n <html><body>503", "a web page", "download the file itself"),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0'><html>", "a web page", "download"),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "XML text ('<?xml version='1.0'?>')", "download"),
        (b'{"error": "Invalid username or password."}', 'JSON text that begins with \'{"error"', "download"),
        (b"Entry not found", "text that begins with 'Entry not found'", "download"),
        ("é" * 3000 + "\n", "text", "download"),
        (archived("zip"), "a zip archive", "unpack"),
        (archived("tar"), "a tar archive", "unpack"),
        (gzip.compress(b"a", mtime=0), "a gzip archive", "unpack"),
        (bz2.compress(b"a"), "a bzip2 archive", "unpack"),
        (lzma.compress(b"a"), "an xz archive", "unpack"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive", "unpack"),
        (b"\x89HDF\r\n\x1a\n\x00", "an HDF5 file", ""),
        (saved_array(), "a NumPy .npy file", ""),
        (image("PNG"), "a PNG image", ""),
        (image("JPEG"), "a JPEG image", ""),
        (image("TIFF"), "a TIFF image", ""),
        (image("BMP"), "a BMP image", ""),
        (image("WEBP"), "a WebP image", ""),
        ("Id,Target\n".encode("utf-16"), "text in UTF-16", "save it as UTF-8"),
    ],
)
def test_the_first_bytes_show_the_kind_of_a_file(tmp_path, content, what, remedy):
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / "file").write_bytes(content)
    kind = kind_of(tmp_path / "file")
    assert kind is not None and kind == kind_of_bytes(content[:START])
    assert what in kind.what and remedy in kind.remedy
    assert kind.what.isprintable()


def test_noise_is_nothing_that_is_known():
    noise = np.random.default_rng(0).bytes(10_000)
    assert kind_of_bytes(b"\x7f" + noise) is None


def test_a_table_is_text_and_not_foreign():
    assert foreign(b"Id,Target\na,0\n") is None
    assert foreign(b"\xef\xbb\xbfId;Target\r\n") is None
