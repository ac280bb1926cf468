import os
import unicodedata

import pytest

from hpa_search.data.naming import Ids, find_channels, id_fault, image_file, other_form, printable, text_fault
from hpa_search.stains import COLOURS

LATIN = os.fsdecode(b"Zell\xe4")


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("", "empty"),
        ("a ", "spaces around it"),
        ("\u00a0a", "spaces around it"),
        (".a", "leading dot"),
        ("a/b", "no '/'"),
        ("a\x1b[31m", r"'a\x1b[31m' cannot be part"),
        ("a\nb", r"'a\nb' cannot be part"),
        ("a\u200bb", r"'a\u200bb' cannot be part"),
        (LATIN, r"'Zell\xe4' is not UTF-8"),
        ("a\ud800", r"'a\ud800' is not UTF-8"),
        ("x" * 245, "too long"),
        ("ä" * 125, "too long"),
    ],
)
def test_a_faulty_id_is_reported_in_printable_words(identifier, words):
    fault = id_fault(identifier)
    assert fault is not None and words in fault
    assert fault.isprintable() and fault.encode()


@pytest.mark.parametrize("identifier", ["1000_20_A1_1", "000a6c98-bb9b-11e8", "Zellä", "日本", "a b", "a,b;c", "x" * 240])
def test_what_a_file_and_a_table_can_hold_is_an_id(identifier):
    assert id_fault(identifier) is None and text_fault(identifier) is None


def test_a_row_of_predictions_may_be_named_as_no_file_is_but_not_as_no_table_is():
    assert text_fault("plate 1/A3 ") is None
    assert "not UTF-8" in str(text_fault(LATIN)) and "control character" in str(text_fault("a\x07"))


def test_what_cannot_be_printed_is_escaped():
    assert printable(f"{LATIN}\t\ud800ä") == r"Zell\xe4\t\ud800ä"


def test_an_id_is_taken_once():
    faults: list[str] = []
    ids = Ids("t.csv, ", faults)
    assert [ids.add(identifier, line) for line, identifier in enumerate(("a", "b", "a", "", "c"), start=2)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert list(ids.lines) == ["a", "b", "c"]
    assert [fault.split(":")[0] for fault in faults] == ["t.csv, line 4", "t.csv, line 5"]


def test_hidden_files_never_count(tmp_path):
    names = [f"a_{colour}.png" for colour in COLOURS]
    channels = find_channels(touch(tmp_path / "f", *names, "._a_red.png", ".b_red.png", ".~lock.a_red.png#", "a_red.png~"))
    assert list(channels.files) == ["a"] and not channels.unfit and channels.images() == ["a"]


def test_a_file_that_only_looks_like_a_channel_is_reported(tmp_path):
    folder = touch(tmp_path / "f", "a_red.PNG", "a_Green.png", "a_blue.tif")
    (folder / "a_yellow.png").mkdir()
    (folder / "b_red.png").symlink_to("nowhere")
    os.mkfifo(folder / "b_green.png")
    (folder / "b_blue.png").symlink_to("b_blue.png")
    channels = find_channels(folder)
    assert channels.images() == ["a", "b"] and not channels.files
    assert list(channels.lacking("a")) == [
        "a_red.PNG: is not in lower case; rename it to a_red.png",
        "a_Green.png: is not in lower case; rename it to a_green.png",
        "a_blue.tif: ends in .tif, not in .png; convert it to 8 bits, as a_blue.png",
        "a_yellow.png: is a folder; a file is expected here",
    ]
    assert [line.partition(" (")[0] for line in channels.lacking("b")] == [
        "b_red.png: is a broken link",
        "b_green.png: is a pipe or a device; a file is expected here",
        "b_blue.png: cannot be accessed",
        "b_yellow.png: missing",
    ]


def test_a_sound_channel_hides_unfit_files_beside_it(tmp_path):
    names = [f"a_{colour}.{ending}" for colour in COLOURS for ending in ("png", "tif", "jpg")]
    channels = find_channels(touch(tmp_path / "f", *names, "a_red.PNG"))
    assert not list(channels.lacking("a"))
    either = find_channels(tmp_path / "f", (".png", ".jpg"))
    assert either.files["a"] == {colour: f"a_{colour}.png" for colour in COLOURS}


def test_a_picture_of_all_channels_is_not_an_image(tmp_path):
    """The atlas has such a .jpg beside each field."""
    names = [image_file("a", colour) for colour in COLOURS]
    assert find_channels(touch(tmp_path / "f", *names, "a_blue_red_green.jpg")).images() == ["a"]


def test_accents_that_a_mac_codes_in_another_way_are_recognised(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zellä") for form in ("NFC", "NFD"))
    assert other_form(composed, ["x", decomposed]) == decomposed
    assert other_form(composed, [composed, "x"]) is None and other_form("Zella", [decomposed]) is None
    channels = find_channels(touch(tmp_path / "f", *(image_file(decomposed, colour) for colour in COLOURS)))
    assert all("accents are encoded differently" in line for line in channels.lacking(composed))
