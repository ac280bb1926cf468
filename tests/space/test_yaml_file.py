import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.errors import UserError
from hpa_search.space.yaml_file import LARGEST, dump_mapping, load_mapping, read_text


def message(text):
    with pytest.raises(UserError) as caught:
        load_mapping(text, "toy.yaml")
    assert str(caught.value).startswith("toy.yaml")
    assert len(str(caught.value)) < 400
    return str(caught.value)


def test_plain_values_come_back_with_lists_as_tuples():
    text = "a: [1, 1e-3, x, true, null]\nb: &b {c: 2}\nd: *b\ne: {<<: *b, f: 3}\n"
    expected = {"a": (1, 1e-3, "x", True, None), "b": {"c": 2}, "d": {"c": 2}, "e": {"c": 2, "f": 3}}
    assert load_mapping(text, "toy.yaml") == expected


@pytest.mark.parametrize("text", ["", "3", "null", "- a\n", "# nothing\n"])
def test_something_else_than_a_mapping(text):
    assert "expected a mapping with 'name', 'space' and 'budget'" in message(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b\n", 'line 2, column 1: not valid YAML: found duplicate key "name"'),
        ("a: {b: 1, b: 2}\n", 'found duplicate key "b"'),
        (
            "a:\n\tb: 3\n",
            "line 2, column 1: not valid YAML: found character '\\t' that cannot start any token; indent with spaces",
        ),
        ("a: {b\n", "line 2"),
        ("a: b: c\n", "mapping values are not allowed here"),
        ("a: *b\n", "undefined alias 'b'"),
        ("a: !!python/object:os.system [ls]\n", "could not determine a constructor"),
        ("a: \x01\n", "special characters are not allowed"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: 0x" + "f" * 100, "a: the number is too large"),
        ("a: 2001-01-01\n", "a: a date is not allowed here"),
        ("a: {b: !!binary aGVsbG8=}\n", "a.b: a bytes is not allowed here"),
        ("a: !!set {b, c}\n", "a: a set is not allowed here"),
        ("a: {1: 2}\n", "a: the key '1' is not text"),
        ("~: 2\n", "at the top: the key 'None' is not text"),
        ("? [a, b]\n: 2\n", "is not text"),
        ("a: " + "x" * 300, "a: text must be printable and of 200 characters at most"),
        ('a: "\\ud800"\n', "printable"),
        ('"\\e[31m": 2\n', "printable"),
        ("x" * (LARGEST + 1), "too large"),
    ],
)
def test_what_is_no_plain_mapping_is_refused_with_its_place(text, words):
    assert words in message(text)


def _bomb(first: str) -> str:
    lines = [f"{first}: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{old}'] * 9)}]" for old, name in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        _bomb("a"),
        "a: &a [*a]",
        "&a\nb: *a\n",
        "a: " + "[" * 3000 + "]" * 3000,
        "a: " + "{b: " * 400 + "1" + "}" * 400,
        "".join(" " * depth + f"k{depth}:\n" for depth in range(100)),
        "a: [" + "1," * 30_000 + "1]",
    ],
    ids=["aliases", "own list", "own mapping", "lists", "mappings", "blocks", "many"],
)
@pytest.mark.timeout(60)
def test_what_would_swamp_its_reader_is_refused(text):
    assert "nested too deeply" in message(text)


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x7fELF\x02\xff\xfe")
    (tmp_path / "large").write_bytes(b"#" * 500_000)
    os.mkfifo(tmp_path / "pipe")
    for path, words in ((tmp_path / "missing", "No such file"), (tmp_path, "not a file"), (tmp_path / "pipe", "not a file")):
        with pytest.raises(UserError, match=words):
            read_text(path)
    for name, words in (("binary", "not UTF-8"), ("large", "too large")):
        with pytest.raises(UserError, match=f"{name}: .*{words}"):
            read_text(tmp_path / name)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfname: a\n")
    assert load_mapping(read_text(tmp_path / "marked"), "toy.yaml") == {"name": "a"}


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=30).filter(str.isprintable),
    st.sampled_from(
        [
            "none",
            "null",
            "yes",
            "off",
            "1e-3",
            "1.0",
            "~",
            "",
            "a: b",
            "# c",
            "- d",
            "1_000",
            "0x1f",
            "?0",
            "0?",
            "a?",
            "!x",
            "%",
            "@a",
            "`",
            "a,b",
            "[",
            "}",
        ]
    ),
)
KEYS = st.from_regex("[a-z_]{1,12}", fullmatch=True)


@given(
    st.dictionaries(
        KEYS,
        st.recursive(
            SCALARS,
            lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.dictionaries(KEYS, inner, max_size=4)),
            max_leaves=12,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_written_is_read_back_to_the_last_digit(content):
    again = load_mapping(dump_mapping(content), "toy.yaml")
    assert repr(again) == repr(content)  # which tells 1 from 1.0 and True, and -0.0 from 0.0


def test_what_is_written_keeps_its_order_and_repeats_what_is_the_same():
    point = {"b": 1, "a": (0.1, 1e-5)}
    text = dump_mapping({"z": (point, point), "y": "n"})
    assert text.splitlines()[0] == "z:" and text.index("z:") < text.index("y:") and "&" not in text and "*" not in text


@pytest.mark.parametrize("content", [{"a": {"b": ":0"}}, {"a": ["b:c", ":"]}, {":0": "x"}, {"a": {":0": ": "}}])
def test_colons_are_read_back(content):
    again = load_mapping(dump_mapping(content), "toy.yaml")
    assert again == {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
