import pytest

from hpa_search.scoring.measured import Member, Snapshot
from hpa_search.scoring.report import caveats, compared, interval, naive, named, over, rule_rows, table, way_rows
from tests.scoring.measurements import BETTER, HALF, UNCLEAR, WORSE, class_score, measured, nested


def test_a_number_stands_with_its_interval():
    assert interval(HALF) == "0.5000 [0.4500, 0.5500] 90%"
    assert naive(nested()) == "0.5500 (optimism +0.0300)"


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (BETTER, "better (+0.0200 [+0.0100, +0.0300] 90%)"),
        (WORSE, "worse (-0.0200 [-0.0300, -0.0100] 90%)"),
        (UNCLEAR, "not distinguishable (+0.0200 [-0.0100, +0.0500] 90%)"),
    ],
)
def test_a_difference_says_whether_it_exceeds_chance(difference, words):
    assert compared(difference) == words


def test_labels_are_named_unless_they_are_all():
    assert over(range(28)) == ""
    assert over((8, 9)) == " over the 2 labels 8, 9 alone"


def test_members_of_several_searches_are_named_by_their_search():
    one, other = Member(Snapshot("first", 3, 9), 0.75), Member(Snapshot("second", 3, 1), 0.25)
    assert named([one]) == "trial 3 epoch 9 x 0.75"
    assert named([one, other]) == "first trial 3 epoch 9 x 0.75, second trial 3 epoch 1 x 0.25"
    assert named(measured().members) == "a|b x 0.60, c x 0.40"


def test_what_makes_the_estimate_too_low_is_said():
    [absent] = caveats(nested())
    assert absent.startswith("2 of the 28 labels have no positive") and "0.9286" in absent and "other 26 it is 0.5600" in absent
    whole = nested(absent=(), classes=(class_score(0),))
    assert caveats(whole) == []
    assert "the bundle averages 5" in caveats(nested(networks=5))[1]


def test_ways_and_rules_are_rows():
    rows = way_rows(measured(), nested())
    assert [row["members"] for row in rows] == [
        "greedy: this ensemble",
        "single: the best alone",
        "uniform: the best 3 with equal weights",
    ]
    assert rows[0]["nested macro F1"].startswith("0.5200 [") and rows[2]["this ensemble is"].startswith("better")
    assert [row["thresholds"] for row in rule_rows(nested())] == ["plug_in", "exact"]


def test_a_table_has_four_digits_and_no_stray_bars():
    assert table([{"model": "a|b\nc", "F1": 0.123456, "rows": 3}]) == [
        "| model | F1 | rows |",
        "| --- | --- | --- |",
        "| a\\|b c | 0.1235 | 3 |",
    ]
