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
    ["a\nc\nb\n", "Id\na\nc\nb\n", "Id,Predicted\na,0\nc,\nb,1 2\n", "Name,Id\nx,a\ny,c\nz,b\n", "\ufeffId\r\na\r\n\r\n c \r\nb"],
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
        ('a\n"b', "no text or CSV"),
    ],
)
def test_what_is_no_list_is_refused(write, content, words):
    with pytest.raises(UserError, match=words):
        read_list(write(content))


def test_bytes_and_missing_files_are_refused(write, tmp_path):
    with pytest.raises(UserError, match="no text or CSV"):
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
