import os

import pytest

from hpa_search.bundle.listing import find_images, read_list
from hpa_search.errors import UserError


@pytest.fixture
def write(tmp_path):
    def text(content, encoding="utf-8"):
        path = tmp_path / "list.csv"
        path.write_bytes(content.encode(encoding))
        return path

    return text


@pytest.mark.parametrize(
    "content",
    [
        "a\nc\nb\n",
        "Id\na\nc\nb\n",
        "Name;Id\r\nx,y;a\r\n;c\r\n;b\r\n",
        "Id,Predicted\na,0\nc,\nb,1 2\n",
        "Name,Id\nx,a\ny,c\nz,b\n",
        "\ufeffId\r\na\r\n\r\n c \r\nb",
    ],
)
def test_one_a_line_or_the_column_of_a_header(write, content):
    assert [identifier for _, identifier in read_list(write(content))] == ["a", "c", "b"]


def test_every_fault_is_listed_by_its_line(write):
    with pytest.raises(UserError) as caught:
        read_list(write("Id,Other\na,1\n\nb,2\na,3\n,4\nb,5\n"))
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "  line 5: Id 'a' is already on line 2",
        "  line 6: no Id",
        "  line 7: Id 'b' is already on line 4",
    ]
    assert "list.csv has 3 faults" in lines[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no Id in it"),
        ("\n \n", "no Id in it"),
        ("Id\n", "no Id below its header"),
        ("a\nb,c\n", "line 2: 2 values"),
        ('a\n"b', "not a text or CSV"),
    ],
)
def test_what_is_no_list_is_refused(write, content, words):
    with pytest.raises(UserError, match=words):
        read_list(write(content))


def test_bytes_and_missing_files_are_refused(write, tmp_path):
    with pytest.raises(UserError, match="not a text or CSV"):
        read_list(write("ä", encoding="latin-1"))
    with pytest.raises(UserError, match="cannot be read"):
        read_list(tmp_path / "missing")


def test_unknown_ids_are_refused_by_line(write, write_images, tmp_path):
    write_images(tmp_path / "flat", "ab")
    with pytest.raises(UserError, match=r"line 2: Id 'x' has no image in .*flat(.|\n)*line 4: Id 'y'"):
        find_images(tmp_path / "flat", write("a\nx\nb\ny\n"))


def test_the_ids_of_a_list_may_be_of_either_part_of_a_dataset(write, write_images, tmp_path):
    write_images(tmp_path / "data" / "train", "pqr")
    write_images(tmp_path / "data" / "test", "xyz")
    (tmp_path / "data" / "train.csv").write_text("nonsense")
    assert find_images(tmp_path / "data", write("z\nx\n")) == (tmp_path / "data" / "test", ("z", "x"))
    assert find_images(tmp_path / "data", write("q\n")) == (tmp_path / "data" / "train", ("q",))
    with pytest.raises(UserError, match="line 3: Id 'x' has no image in .*train"):
        find_images(tmp_path / "data", write("q\nr\nx\n"))


def test_a_file_name_that_is_not_utf8_is_refused_by_name_before_any_work(write_images, tmp_path):
    write_images(tmp_path / "flat", ["good", os.fsdecode(b"Zell\xe4")])
    with pytest.raises(UserError, match=r"flat/Zell\\xe4_\*\.png: Id 'Zell\\xe4' is not UTF-8.*rename the files") as caught:
        find_images(tmp_path / "flat")
    assert str(caught.value).encode() and str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("identifier", ["a\x07b", "a\nb", " a", "\u202ea"])
def test_control_marks_and_spaces_in_file_names_are_refused(write_images, tmp_path, identifier):
    write_images(tmp_path / "flat", ["good", identifier])
    with pytest.raises(UserError, match="has 1 fault"):
        find_images(tmp_path / "flat")


@pytest.mark.parametrize("content", ["a\x07b\n", ".a\n", "a/b\n", "Id\n../a\n", "Id;x\n.a;0\n"])
def test_the_ids_of_a_list_are_checked_as_those_of_a_table_are(write, content):
    with pytest.raises(UserError, match=r"line \d: Id '.*' cannot be part of a file name"):
        read_list(write(content))


def test_a_list_that_names_no_file_at_fault_may_be_labelled(write, write_images, tmp_path):
    write_images(tmp_path / "flat", ["good", os.fsdecode(b"Zell\xe4")])
    assert find_images(tmp_path / "flat", write("good\n"))[1] == ("good",)


def test_files_that_no_reader_takes_are_told_before_any_work(write, write_images, tmp_path):
    write_images(tmp_path / "flat", "ab")
    for path in list((tmp_path / "flat").glob("b_*")):
        path.rename(path.with_suffix(".PNG"))
    (tmp_path / "flat" / "a_red.png").unlink()
    (tmp_path / "flat" / "a_red.png").mkdir()
    for arguments in ((tmp_path / "flat",), (tmp_path / "flat", write("a\nb\n"))):
        with pytest.raises(UserError, match=r"has 5 faults(.|\n)*a_red.png: is a folder(.|\n)*rename it to b_yellow.png"):
            find_images(*arguments)


def test_what_may_be_meant_is_named(write, write_images, tmp_path):
    write_images(tmp_path / "flat", ["a_1"])
    with pytest.raises(UserError, match=r"Id 'a_1_red.png' has no image in .*; 'a_1' has one"):
        find_images(tmp_path / "flat", write("a_1_red.png\n"))


def test_a_list_from_powershell_is_named_for_what_it_is(write):
    with pytest.raises(UserError, match="list.csv: is text in UTF-16; save it as UTF-8"):
        read_list(write("a\r\n", encoding="utf-16"))
