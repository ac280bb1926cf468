import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.data.tables import Row, read_table, separator


def read(tmp_path, content, columns=("Id", "Target")):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    faults: list[str] = []
    return read_table(path, columns, faults), faults


def test_rows_come_in_the_asked_order_with_their_lines(tmp_path):
    rows, faults = read(tmp_path, "Target,More,Id\r\n0 1,x,a\r\n\r\n2,,b\r\n")
    assert rows == [Row(2, ("a", "0 1")), Row(4, ("b", "2"))] and not faults


def test_an_optional_column_comes_last_where_there_is_one(tmp_path):
    for header, values in (("Id,Fold,Target", ("a", "0", "7")), ("Id,More,Target", ("a", "0"))):
        (tmp_path / "t.csv").write_text(f"{header}\na,7,0\n")
        faults: list[str] = []
        assert read_table(tmp_path / "t.csv", ("Id", "Target"), faults, optional="Fold") == [Row(2, values)]
        assert not faults


def test_a_byte_order_mark_and_quotes_are_accepted(tmp_path):
    assert read(tmp_path, b'\xef\xbb\xbfId,Target\n"a,b","0"\n') == ([Row(2, ("a,b", "0"))], [])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"Id,Target\na,0\nb\xff,1\n", "t.csv, line 3: byte 0xff"),
        (b"Id,Target\na,0\nb\0,1\n", "t.csv, line 3: a NUL byte"),
        (b"", "t.csv: is empty"),
        (b"Id,Targte\na,0\n", "t.csv, line 1: no column 'Target' in the header 'Id,Targte'; did you mean 'Targte'?"),
        (b"Id,Target,Id\na,0,a\n", "t.csv, line 1: column 'Id' appears more than once"),
        (b'Id,Target\na,0\n"b,1\nc,2\n', "t.csv, line 3: cannot be read as CSV (unexpected end of data)"),
        (b"Id,Target\na," + b"1" * 200_000 + b"\n", "t.csv, line 2: cannot be read as CSV (field larger"),
    ],
)
def test_a_file_that_is_not_a_table_is_one_fault(tmp_path, content, fault):
    rows, faults = read(tmp_path, content)
    assert rows is None
    assert len(faults) == 1 and faults[0].startswith(fault)


def test_ragged_rows_are_left_out_and_named(tmp_path):
    rows, faults = read(tmp_path, "Id,Target\na\nb,0\nc,1,2\n")
    assert rows == [Row(3, ("b", "0"))]
    assert faults == ["t.csv, line 2: 1 values where the header has 2", "t.csv, line 4: 3 values where the header has 2"]


def test_a_missing_file_and_a_folder_are_faults(tmp_path):
    faults: list[str] = []
    assert read_table(tmp_path / "none.csv", ("Id",), faults) is None
    assert read_table(tmp_path, ("Id",), faults) is None
    assert faults[0] == "none.csv: missing" and "directory" in faults[1]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("Id,Target\na,0\n".encode("utf-16"), "t.csv: is text in UTF-16; save it as UTF-8"),
        ("Id,Target\nä,0\n".encode("cp1252"), "t.csv, line 2: byte 0xe4 is not UTF-8 text; save the table as UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00", "t.csv: is a zip archive; unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "t.csv: is a Git LFS pointer"),
        (b"<!DOCTYPE html><title>Kaggle</title>", "t.csv: is a web page ('Kaggle')"),
        (bytes(100), "t.csv: is made of zero bytes"),
    ],
)
def test_what_other_programs_leave_is_named_for_what_it_is(tmp_path, content, fault):
    rows, faults = read(tmp_path, content)
    assert rows is None and len(faults) == 1 and faults[0].startswith(fault)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("Id,Target\n", ","),
        ("Id;Target\n", ";"),
        ('\n \n"Id";Target\r\n', ";"),
        ("Target\tId\n", "\t"),
        ("Id\na;b\n", ","),
        ("Id,a;Target\n", ","),
        ("a;b\n", ","),
        ("", ","),
        ("x" * 200_000, ","),
    ],
)
def test_the_separator_makes_the_header_right(text, mark):
    assert separator(text, ("Id", "Target")) == mark


def test_a_table_of_a_european_excel_is_read(tmp_path):
    rows = [Row(2, ("a", "0 1")), Row(3, ("b,c", "2"))]
    assert read(tmp_path, b'\xef\xbb\xbfId;Target;Share\r\na;0 1;0,5\r\n"b,c";2;1,0\r\n') == (rows, [])
    assert read(tmp_path, " Id ,\tTarget \na,0 1\n") == ([Row(2, ("a", "0 1"))], [])


def test_a_file_with_other_capitals_is_named(tmp_path):
    faults: list[str] = []
    (tmp_path / "Train.CSV").write_text("Id\n")
    assert read_table(tmp_path / "train.csv", ("Id",), faults) is None
    (tmp_path / "groups.csv").symlink_to("nowhere")
    assert read_table(tmp_path / "groups.csv", ("Id",), faults) is None
    assert faults == [
        "train.csv: missing, but 'Train.CSV' is here: rename it",
        "groups.csv: missing (a broken link)",
    ]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.text("0 1\n,\"'")), max_size=8))
def test_any_table_that_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("Id", "Target"))
    writer.writerows(rows)
    found, faults = read(tmp_path_factory.mktemp("table"), text.getvalue())
    assert not faults and found is not None
    assert [row.values for row in found] == rows
