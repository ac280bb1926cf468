import numpy as np
import pytest

from hpa_search.errors import UserError
from hpa_search.predictions.sheet import Sheet


def refused(path, read=lambda sheet: None) -> str:
    with pytest.raises(UserError) as caught:
        read(Sheet(path))
    assert str(path) in str(caught.value)
    return str(caught.value)


def edited(path, change):
    """Let ``change`` have the lines of a file, each as a list of values."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    return path


def test_what_is_in_it(sheet, drawn):
    arrays = drawn()
    groups = np.array([f"g{row // 2}" for row in range(150)])
    groups[7] = ""
    found = Sheet(sheet(groups=groups))
    assert found.names == ("good", "fair", "noise")
    assert found.ids == tuple(arrays["ids"].tolist())
    np.testing.assert_array_equal(found.labels(), arrays["labels"])
    np.testing.assert_array_equal(found.values("fair").astype(np.float32), arrays["fair"])
    assert found.groups()[[0, 1, 6]].tolist() == ["group g0", "group g0", "group g3"]
    assert found.groups()[7] == "row id0007"


def test_columns_in_any_order_after_a_mark_and_blank_lines(sheet, drawn):
    path = sheet()
    edited(path, lambda lines: [line.reverse() for line in lines])
    path.write_text("\ufeff" + path.read_text().replace("\n", "\n\n"))
    found = Sheet(path)
    assert set(found.names) == {"good", "fair", "noise"}
    np.testing.assert_array_equal(found.values("good").astype(np.float32), drawn()["good"])


def test_names_that_end_in_a_number_and_ids_that_are_numbers(sheet, drawn):
    arrays = drawn()
    found = Sheet(sheet(good=None, resnet_3=arrays["good"], ids=np.array([f"{i:05}" for i in range(150)])))
    assert found.names == ("fair", "noise", "resnet_3")
    assert found.ids[7] == "00007"


def test_without_labels_and_groups(sheet):
    found = Sheet(sheet(labels=None))
    assert found.labels() is None and found.groups() is None


def test_a_row_without_a_label(sheet):
    found = Sheet(edited(sheet(), lambda lines: lines[4].__setitem__(1, "")))
    assert not found.labels()[3].any() and found.labels()[4].any()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((0, 0), "Ident", "no column 'Id'"),
        (
            (0, 1),
            "Tarket",
            "column 'Tarket' is not Id, Target or Group, nor NAME_0 ... NAME_27 of a model; did you mean 'Target'",
        ),
        ((0, 5), "good_28", "column 'good_28'"),
        ((0, 5), "good_03", "column 'good_03'"),
        ((0, 5), "god_3", "model 'good' lacks the column(s) good_3"),
        ((0, 5), "good_2", "'good_2' appears more than once"),
        ((3, 1), "28", "Target of Id 'id0002': label 28 is out of range"),
        (
            (3, 1),
            "16.0",
            "Target of Id 'id0002': '16.0' is not a label id; expected numbers from 0 to 27 separated by spaces; write it as 16",
        ),
        ((3, 1), "0 x", "Target of Id 'id0002': 'x' is not a label id"),
        ((3, 5), "high", "good_3 of Id 'id0002' is 'high'; expected a number"),
        ((3, 5), "", "good_3 of Id 'id0002' is ''"),
        ((3, 5), "nan", "good_3 of Id 'id0002' is 'nan'"),
        ((3, 5), "0.1,0.2", "cannot be read as CSV"),
        ((1, 85), "0.1,0.2", "cannot be read as CSV"),
        ((3, 0), '"id', "cannot be read as CSV"),
    ],
)
def test_a_fault_is_named(sheet, place, value, words):
    path = edited(sheet(rows=20), lambda lines: lines[place[0]].__setitem__(place[1], value))
    assert words in refused(path, lambda found: (found.labels(), [found.values(name) for name in found.names]))


@pytest.mark.parametrize("comma", [False, True])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_what_an_excel_set_to_europe_writes_is_read(sheet, drawn, mark, comma):
    path = sheet()
    text = path.read_text().replace(",", mark)
    path.write_bytes(b"\xef\xbb\xbf" + (text.replace(".", ",") if comma else text).replace("\n", "\r\n").encode())
    found = Sheet(path)
    assert found.names == ("good", "fair", "noise")
    np.testing.assert_array_equal(found.labels(), drawn()["labels"])
    np.testing.assert_allclose(found.values("fair"), drawn()["fair"], rtol=1e-6)


def test_spaces_around_the_header_are_no_part_of_it(sheet):
    path = edited(sheet(), lambda lines: lines[0].__setitem__(slice(0, 3), [" Id", "Target ", " good_0 "]))
    assert Sheet(path).names == ("good", "fair", "noise")


def test_text_that_is_not_utf8_is_named_by_its_line(sheet):
    path = sheet(rows=20)
    path.write_bytes(path.read_bytes().replace(b"id0002", b"id\xe4002"))
    assert "(line 4: byte 0xe4 is not UTF-8 text; save the table as UTF-8" in refused(path)
    path.write_text("Id\n", encoding="utf-16")
    assert "is text in UTF-16; save it as UTF-8" in refused(path)


def test_a_short_row(sheet):
    path = edited(sheet(rows=20), lambda lines: lines[3].pop())
    assert "noise_27 of Id 'id0002' is ''" in refused(path, lambda found: found.values("noise"))


def test_truth_values_are_no_numbers(sheet):
    def change(lines):
        for line in lines[1:]:
            line[5] = "True"

    assert "is 'True'; expected a number" in refused(edited(sheet(rows=20), change), lambda found: found.values("good"))


def test_files_of_another_kind(tmp_path, npz):
    (tmp_path / "empty.csv").touch()
    assert "no column 'Id'" in refused(tmp_path / "empty.csv")
    assert "No such file" in refused(tmp_path / "missing.csv")
    assert "Is a directory" in refused(tmp_path)
    assert "cannot be read as CSV" in refused(npz("binary.csv.npz"))
