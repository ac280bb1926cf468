import pytest

from hpa_search.layout import TIMES
from hpa_search.ledger.times import PARTS, append_times, in_words, parts_of, read_times

FIRST = {
    "seconds": 10.0,
    "data_seconds": 1.0,
    "evaluate_seconds": 2.0,
    "checkpoint_seconds": 0.5,
    "waiting_seconds": 3.0,
    "start_seconds": 0.25,
}
LATER = {"seconds": 10.0, "data_seconds": 1.0, "evaluate_seconds": 2.0}


def test_an_epochs_parts_are_disjoint():
    parts = parts_of(FIRST)
    assert tuple(parts) == PARTS
    assert parts == {"waiting": 3.0, "start": 0.25, "data": 1.0, "train": 7.0, "evaluate": 2.0, "checkpoint": 0.5}


def test_sums_are_over_all_rows_also_of_several_drivers(tmp_path):
    append_times(tmp_path, 0, 1, parts_of(FIRST))
    append_times(tmp_path, 12, 3, parts_of(LATER))
    assert (tmp_path / TIMES).read_text().splitlines()[1:] == [
        "0,1,3.000,0.250,1.000,7.000,2.000,0.500",
        "12,3,0.000,0.000,1.000,7.000,2.000,0.000",
    ]
    assert read_times(tmp_path) == {"waiting": 3.0, "start": 0.25, "data": 2.0, "train": 14.0, "evaluate": 4.0, "checkpoint": 0.5}


@pytest.mark.parametrize("left", ["1,2,0.0", "1,2,3.000,0.250,1.000,7.000,2.0", "1", ""])
def test_half_a_line_of_a_killed_driver_costs_that_line_alone(tmp_path, left):
    append_times(tmp_path, 0, 1, parts_of(FIRST))
    with (tmp_path / TIMES).open("a") as file:
        file.write(left)
    append_times(tmp_path, 2, 1, parts_of(FIRST))
    assert read_times(tmp_path)["train"] == 14.0


def test_nothing_is_known_of_a_search_without_times(tmp_path):
    assert read_times(tmp_path) == {}
    assert in_words({}) == ""


def test_the_shares_in_words():
    words = in_words({"waiting": 0.0, "start": 36.0, "data": 0.0, "train": 288.0, "evaluate": 36.0, "checkpoint": 0.1})
    assert words == "Of the reported epochs' 0.10 slot hours 80 % were training (start of legs 10 %, evaluation 10 %)"
