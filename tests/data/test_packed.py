import errno
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from hpa_search.data.decode import decode_image
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import Source, find_faults, open_packed, pack, pack_source
from hpa_search.data.resize import resize
from hpa_search.errors import UserError
from hpa_search.stains import COLOURS
from hpa_search.system_errors import Refused

IDS = tuple(f"id{index}" for index in range(6))


@pytest.fixture
def folder(tmp_path, write_images):
    write_images(tmp_path / "train", IDS, 12)
    return tmp_path / "train"


def visible(cache) -> list[str]:
    return sorted(entry.name for entry in cache.iterdir() if not entry.name.endswith(".lock"))


def test_pixels_are_those_of_the_files_in_the_order_of_the_ids(tmp_path, write_images):
    pixels = write_images(tmp_path / "train", IDS, 12)
    order = [4, 0, 5]
    packed = pack(tmp_path / "train", [IDS[row] for row in order], tmp_path / "cache", workers=2)
    assert np.array_equal(packed.pixels, pixels[order])
    assert (packed.ids, packed.size, len(packed)) == (("id4", "id0", "id5"), 12, 3)
    assert np.array_equal(packed.gather(np.array([2, 0, 2])), pixels[[5, 4, 5]])
    assert not packed.pixels.flags.writeable and packed.gather(np.array([0])).flags.writeable
    with pytest.raises(IndexError):
        packed.gather(np.array([3]))


def test_a_second_caller_finds_the_pack_without_decoding(folder, tmp_path):
    calls = []
    first = pack(folder, IDS, tmp_path / "cache", lambda done, total: calls.append((done, total)))
    assert calls == [(done, 6) for done in range(1, 7)]
    again = pack(folder, IDS, tmp_path / "cache", lambda done, total: pytest.fail("decoded again"))
    assert again.path == first.path and np.array_equal(again.pixels, first.pixels)


def test_a_changed_file_or_another_choice_of_images_is_another_pack(folder, tmp_path):
    packs = [pack(folder, IDS, tmp_path / "cache"), pack(folder, IDS[:3], tmp_path / "cache")]
    Image.fromarray(np.full((12, 12), 7, dtype=np.uint8)).save(folder / "id0_red.png")
    packs.append(pack(folder, IDS, tmp_path / "cache"))
    assert len({packed.path for packed in packs}) == 3
    assert (packs[2].pixels[0, 0] == 7).all() and not (packs[0].pixels[0, 0] == 7).all()


def test_a_pack_is_pickled_as_its_path(folder, tmp_path):
    packed = pack(folder, IDS, tmp_path / "cache")
    data = pickle.dumps(packed)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).pixels, packed.pixels)


def test_every_image_fault_is_in_one_error_and_nothing_is_kept(folder, tmp_path):
    Image.new("RGB", (12, 12)).save(folder / "id0_red.png")
    Image.new("L", (10, 10)).save(folder / "id1_green.png")
    Image.new("L", (12, 10)).save(folder / "id2_blue.png")
    whole = (folder / "id3_yellow.png").read_bytes()
    (folder / "id3_yellow.png").write_bytes(whole[: len(whole) // 2])
    (folder / "id4_red.png").write_text("no image")
    with pytest.raises(DatasetFaults) as caught:
        pack(folder, IDS, tmp_path / "cache")
    starts = ["id0_red.png: is of mode 'RGB'", "id1_green.png: is 10 x 10 pixels; most of the images are 12 x 12"]
    starts += ["id2_blue.png: is 12 x 10 pixels; the networks take square", "id3_yellow.png: is unreadable or cut short"]
    starts += ["id4_red.png: is not a PNG file"]
    assert len(caught.value.faults) == 5
    for fault, start in zip(caught.value.faults, starts, strict=True):
        assert fault.startswith(f"train/{start}")
    assert visible(tmp_path / "cache") == []
    (folder / "id5_blue.png").unlink()
    with pytest.raises(DatasetFaults) as caught:
        pack(folder, IDS, tmp_path / "cache")
    assert len(caught.value.faults) == 6 and caught.value.faults[-1] == "train/id5_blue.png: missing"
    assert find_faults(folder, IDS) == caught.value.faults


def test_no_readable_image_at_all(tmp_path):
    (tmp_path / "train").mkdir()
    for colour in ("red", "green", "blue", "yellow"):
        (tmp_path / "train" / f"a_{colour}.png").write_bytes(b"")
    with pytest.raises(DatasetFaults, match="4 faults"):
        pack(tmp_path / "train", ["a"], tmp_path / "cache")
    with pytest.raises(UserError, match="no image"):
        pack(tmp_path / "train", [], tmp_path / "cache")


def test_another_size_is_made_once_from_the_native_pack(folder, tmp_path):
    packed = pack(folder, IDS, tmp_path / "cache")
    small = packed.at_size(5)
    assert np.array_equal(small.pixels, resize(np.asarray(packed.pixels), 5))
    assert small.ids == IDS and small.size == 5
    made = (small.path / "pixels.npy").stat().st_mtime_ns
    assert (packed.at_size(5).path / "pixels.npy").stat().st_mtime_ns == made
    assert packed.at_size(12) is packed and small.at_size(12).path == packed.path
    larger = small.at_size(17)
    assert np.array_equal(larger.pixels, resize(np.asarray(packed.pixels), 17)), "from the native pixels, not the small ones"
    with pytest.raises(ValueError, match="below 1"):
        packed.at_size(0)


def test_a_damaged_pack_is_made_again(folder, tmp_path):
    packed = pack(folder, IDS, tmp_path / "cache")
    expected = np.array(packed.pixels)
    damages = [("pixels.npy", b""), ("pixels.npy", b"\x93NUMPY\x01\x00"), ("pack.json", b'{"ids": ['), ("pack.json", b"[]")]
    for name, content in damages:
        (packed.path / name).write_bytes(content)
        with pytest.raises(UserError, match="not a readable image cache"):
            open_packed(packed.path)
        assert np.array_equal(pack(folder, IDS, tmp_path / "cache").pixels, expected)


COUNTING_PACK = """
import sys
from pathlib import Path
from hpa_search.data.decode import decode_image
from hpa_search.data.kaggle import read_dataset
from hpa_search.stains import COLOURS
from hpa_search.data.packed import pack
sys.stdin.read(1)
decoded = []
packed = pack(Path(sys.argv[1]), sys.argv[3:], Path(sys.argv[2]), lambda done, total: decoded.append(done))
print(len(decoded), packed.pixels.sum(dtype=int))
"""


def test_of_several_processes_one_decodes(folder, tmp_path):
    command = [sys.executable, "-c", COUNTING_PACK, folder, tmp_path / "cache", *IDS]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = [process.communicate(timeout=120)[0].split() for process in processes]
    assert sorted(decoded for decoded, _ in found) == ["0", "0", "6"]
    assert len({total for _, total in found}) == 1


SLOW_PACK = """
import sys, time
from pathlib import Path
from hpa_search.data.decode import decode_image
from hpa_search.data.kaggle import read_dataset
from hpa_search.stains import COLOURS
from hpa_search.data.packed import pack
def stop_here(done, total):
    print("decoding", flush=True)
    time.sleep(600)
pack(Path(sys.argv[1]), sys.argv[3:], Path(sys.argv[2]), stop_here, 1)
"""


def test_the_lock_of_a_killed_process_holds_nobody_up(folder, tmp_path):
    command = [sys.executable, "-c", SLOW_PACK, folder, tmp_path / "cache", *IDS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == "decoding\n"
        assert any(entry.name.endswith(".building") for entry in (tmp_path / "cache").iterdir())
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    start = time.monotonic()
    packed = pack(folder, IDS, tmp_path / "cache")
    assert time.monotonic() - start < 30
    assert visible(tmp_path / "cache") == [packed.path.name]


def test_files_that_change_while_they_are_read_are_refused(folder, tmp_path, write_images):
    def meddle(done, total):
        if done == total:
            write_images(folder, IDS[:1], 12, seed=5)

    with pytest.raises(UserError, match="changed while they were read"):
        pack(folder, IDS, tmp_path / "cache", meddle)
    assert visible(tmp_path / "cache") == []


def test_real_images(real_data, tmp_path):
    dataset = read_dataset(real_data / "hpa-fields-512")
    packed = pack(dataset.train_folder, dataset.ids, tmp_path)
    assert packed.pixels.shape == (7, 4, 512, 512)
    with Image.open(dataset.train_folder / f"{dataset.ids[3]}_blue.png") as image:
        assert np.array_equal(packed.pixels[3, 2], np.asarray(image))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("name", ["pack.json", "pixels.npy"])
def test_a_pack_that_cannot_be_read_now_is_not_made_anew(tmp_path, write_images, monkeypatch, number, name):
    write_images(tmp_path / "a", ["x"], 8)
    packed = pack(tmp_path / "a", ["x"], tmp_path / "cache")
    before = (packed.path / "pixels.npy").stat().st_ino
    opened = io.open

    def refuse(path, *rest, **more):
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(Refused, match=f"{name}: the image cache cannot be read"):
        pack(tmp_path / "a", ["x"], tmp_path / "cache")
    monkeypatch.undo()
    assert (pack(tmp_path / "a", ["x"], tmp_path / "cache").path / "pixels.npy").stat().st_ino == before


def test_an_interrupt_begins_no_further_image_and_leaves_nothing(tmp_path, monkeypatch):
    folder, decoded, told = tmp_path / "train", [], threading.Event()
    folder.mkdir()
    ids = [f"image{number}" for number in range(300)]
    for name in (f"{identifier}_{colour}.png" for identifier in ids for colour in COLOURS):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)

    def decode(files, size):
        decoded.append(files)
        if len(decoded) > 10:
            assert told.wait(60)
        return decode_image(files, size)

    def interrupted(done, of):
        told.set()
        raise KeyboardInterrupt

    source = Source(folder, tuple(ids), tuple(tuple(folder / f"{i}_{c}.png" for c in COLOURS) for i in ids), decode)
    with pytest.raises(KeyboardInterrupt):
        pack_source(source, tmp_path / "cache", interrupted, workers=2)
    assert len(decoded) < 100
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []
