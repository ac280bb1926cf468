from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from hpa_search.config import Record
from hpa_search.explain import allowed, explain, given


class Inner(Record):
    count: int | None = Field(default=None, ge=1, lt=9)
    ends: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _odd(self) -> "Inner":
        if self.count == 4:
            raise ValueError("count 4 is not lucky")
        return self


class Outer(Record):
    inner: Inner
    many: Mapping[str, Inner] = {}
    row: tuple[Inner, ...] = ()
    either: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    word: str = Field(default="a", description="a word of the trade")


def message(**content):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(content)
    return str(explain(caught.value, "file.yaml", Outer)).removeprefix("file.yaml: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "inner: missing; expected a mapping with count, ends"),
        ({"inner": {"count": 9}}, "inner.count: expected a whole number at least 1 and below 9 (given: 9)"),
        ({"inner": {"cuont": 9}}, "inner.cuont: unknown key; did you mean 'count'?"),
        ({"inner": {"zzz": 9}}, "inner.zzz: unknown key; known are count, ends"),
        ({"inner": {"count": 4}}, "inner: count 4 is not lucky"),
        ({"inner": {"ends": (1.0,)}}, "inner.ends: expected a list of 2 numbers (given: [1.0])"),
        ({"inner": {"ends": (1.0, "x")}}, "inner.ends.1: expected a number (given: 'x')"),
        ({"inner": {}, "many": {"k": {"count": "x"}}}, "many.k.count: expected a whole number at least 1 and below 9 (given: 'x')"),
        ({"inner": {}, "many": {"k": {"ends_": 1}}}, "many.k.ends_: unknown key; did you mean 'ends'?"),
        ({"inner": {}, "row": ({}, {"count": 0})}, "row.1.count: expected a whole number at least 1 and below 9 (given: 0)"),
        ({"inner": {}, "either": "x"}, "either: expected 'auto' or a whole number (given: 'x')"),
        ({"inner": {}, "word": 3}, "word: expected a word of the trade (given: 3)"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_key_allowed_and_given(content, expected):
    found = message(**content)
    assert sorted(found.replace("a whole number or 'auto'", "'auto' or a whole number").split()) == sorted(expected.split())


def test_every_fault_has_its_line_and_file():
    lines = message(inner={"count": 0}, either=[], further=1).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("file.yaml: ") for line in lines[1:])


def test_a_fault_of_the_whole_has_no_key():
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(3)
    assert str(explain(caught.value, "file.yaml", Outer)).startswith("file.yaml: expected a mapping with inner, many")


def test_long_values_are_cut():
    assert len(given("x" * 10_000)) < 100
    assert given((1, 2)) == "(given: [1, 2])"


def test_allowed_says_type_and_range():
    assert allowed(Inner.model_fields["count"]) == "a whole number at least 1 and below 9"
    assert allowed(Outer.model_fields["many"]) == "a mapping"
